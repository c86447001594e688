"""Checks a request against the model and plans it: prompt in tokens, bounds, sampling, constraints.

What the engine cannot do is refused here, by the name of the field that asks for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from contracts.chat import ChatRequest
from contracts.completions import CompletionRequest
from contracts.tools import NamedTool, Tool
from model_code.serving.engines.base import Engine, SamplingParams
from model_code.serving.errors import ServingError, invalid
from model_code.serving.generation import structured_output as structured_output
from model_code.serving.generation.chat_tokenizer import ChatTokenizer
from model_code.serving.generation.tool_calls import ToolCallSyntax
from model_code.serving.settings import ServerSettings

_LARGE_TEXT = 16_384  # characters; longer prompts are tokenised off the event loop
_DEFAULT_TEMPERATURE = 1.0
_LEAST = 1e-4  # engines compute in single precision, where less is nothing: it means the likeliest token


@dataclass(frozen=True)
class ToolPlan:
    """Which calls may come, and how they are written.

    `forced`: the answer is a call and nothing else; `only` is then the one function it can be of, whose
    arguments are all that is written. `visible` are control tokens that mark a call.
    """

    names: set[str]
    syntax: ToolCallSyntax
    visible: frozenset[int]
    forced: bool
    only: str | None
    several: bool


@dataclass(frozen=True)
class Plan:
    """A request that fits: its prompt in tokens, how far its answers may go, and what they are held to."""

    prompt: list[int]
    max_tokens: int
    sampling: SamplingParams
    stops: list[str]
    answers: int = 1
    schema: str | None = None
    logprobs: int | None = None
    tools: ToolPlan | None = None
    adapter: str | None = None

    @property
    def tokens(self) -> int:
        """Most tokens the request may come to hold."""
        return self.answers * (len(self.prompt) + self.max_tokens)


class Planner:
    """Plans requests for one engine and tokenizer."""

    def __init__(self, settings: ServerSettings, engine: Engine, tokenizer: ChatTokenizer) -> None:
        self._settings = settings
        self._engine = engine
        self._tokenizer = tokenizer

    async def chat(self, request: ChatRequest) -> Plan:
        """The plan of a chat. Raises ServingError: too long, or more than the engine can do."""
        self._check_answers(request.answers)
        offered = request.tools if request.tools and request.tool_choice != "none" else []
        tools, schema = self._tools(request, offered)
        schema = schema or structured_output.response_format_schema(request.response_format)
        if schema and not self._engine.capabilities.schemas:
            raise self._cannot("response_format" if not offered else "tool_choice")
        logprobs = (request.top_logprobs or 0) if request.logprobs else None
        if logprobs is not None and logprobs > (most := self._engine.capabilities.top_logprobs):
            raise self._cannot("top_logprobs", f" above {most}")
        text = self._tokenizer.render(request.messages, offered)
        return await self._plan(request, text, schema=schema, logprobs=logprobs, tools=tools)

    async def completion(self, request: CompletionRequest) -> Plan:
        """The plan of a text completion. Raises ServingError."""
        self._check_answers(request.answers)
        return await self._plan(request, request.prompt)

    async def _plan(
        self,
        request: ChatRequest | CompletionRequest,
        text: str,
        *,
        schema: str | None = None,
        logprobs: int | None = None,
        tools: ToolPlan | None = None,
    ) -> Plan:
        chat = isinstance(request, ChatRequest)
        context, asked = self._engine.context_tokens, request.token_limit
        if (fewest := self._tokenizer.fewest_tokens(text)) > context:
            raise _too_long(context, fewest, asked, chat)
        if len(text) > _LARGE_TEXT:
            prompt = await asyncio.to_thread(self._tokenizer.encode, text, with_special=not chat)
        else:
            prompt = self._tokenizer.encode(text, with_special=not chat)
        room = context - len(prompt)
        if room < 1 or (asked or 0) > room:
            raise _too_long(context, len(prompt), asked, chat)
        default = min(room, self._settings.default_max_tokens or room)
        return Plan(
            prompt,
            asked or default,
            _sampling(request),
            request.stop_strings,
            request.answers,
            schema,
            logprobs,
            tools,
        )

    def _tools(self, request: ChatRequest, offered: list[Tool]) -> tuple[ToolPlan | None, str | None]:
        """What is planned for the tools, and the schema that forces a call."""
        if not offered:
            return None, None
        choice = request.tool_choice or "auto"
        functions = [tool.function for tool in offered]
        if isinstance(choice, NamedTool):
            functions = [function for function in functions if function.name == choice.function.name]
        forced = choice != "auto"
        only = functions[0].name if forced and len(functions) == 1 else None
        syntax = self._tokenizer.tool_call_syntax
        marks = (syntax.begin, syntax.end or syntax.begin)
        visible = frozenset().union(*(self._tokenizer.control_tokens(mark) for mark in marks))
        several = request.parallel_tool_calls is not False
        plan = ToolPlan({f.name for f in functions}, syntax, visible, forced, only, several)
        if not forced:
            return plan, None
        return plan, structured_output.arguments_schema(
            functions[0]
        ) if only else structured_output.any_tool_call_schema(functions)

    def _check_answers(self, answers: int) -> None:
        if answers > self._settings.max_running:
            most = self._settings.max_running
            raise invalid(f"This server computes {most} answers at once.", param="n", code="invalid_value")

    def _cannot(self, field: str, more: str = "") -> ServingError:
        text = f"The '{self._engine.name}' engine cannot do '{field}'{more} for this model."
        return invalid(text, param=field, code="unsupported_by_engine")


def _sampling(request: ChatRequest | CompletionRequest) -> SamplingParams:
    temperature = _DEFAULT_TEMPERATURE if request.temperature is None else request.temperature
    return SamplingParams(
        temperature=temperature if temperature >= _LEAST else 0.0,
        top_p=1.0 if request.top_p is None else max(request.top_p, _LEAST),
        seed=request.seed,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
    )


def _too_long(context: int, prompt: int, asked: int | None, chat: bool) -> ServingError:
    field = "messages" if chat else "prompt"
    wanted = f"{prompt} in the {field}" + (f" and {asked} in the answer" if asked else "")
    return invalid(
        f"This model's context is {context} tokens, but the request needs more: {wanted}. "
        f"Shorten the {field} or lower max_tokens.",
        param=field,
        code="context_length_exceeded",
    )
