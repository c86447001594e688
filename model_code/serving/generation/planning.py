"""Checks a request against the model and plans it: prompt in tokens, bounds, sampling, constraints.

What the engine cannot do is refused here, by the name of the field that asks for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial

from contracts.chat import ChatRequest
from contracts.completions import CompletionRequest
from contracts.tools import NamedTool, Tool
from model_code.serving.engines.base import Engine, SamplingParams
from model_code.serving.errors import ServingError, context_exceeded, invalid
from model_code.serving.generation import structured_output as structured_output
from model_code.serving.generation.chat_tokenizer import ChatTokenizer
from model_code.serving.generation.tool_calls import ToolCallSyntax
from model_code.serving.protocol.parsing import refuse_images
from model_code.serving.settings import ServerSettings

_LARGE_TEXT = 16_384  # characters; longer prompts are tokenised off the event loop
_DEFAULT_TEMPERATURE = 1.0
_LEAST = 1e-4  # engines compute in single precision, where less is nothing: it means the likeliest token


@dataclass(frozen=True)
class ToolPlan:
    """Which calls may come, and how they are written.

    `forced`: the answer is a call and nothing else; `only` is then the one function it can be of, whose
    arguments are all that is written. `beside_format`: the answer is JSON of a format, or else a call as
    JSON.
    `visible` are control tokens that mark a call.
    """

    names: set[str]
    syntax: ToolCallSyntax
    visible: frozenset[int]
    forced: bool
    only: str | None
    several: bool
    beside_format: bool = False


@dataclass(frozen=True)
class Plan:
    """A request that fits: its prompt in tokens, how far its answers may go, and what they are held to.

    `loose_schema` takes the place of a `schema` that the engine cannot hold to; without it that is an error.
    `echo`: the prompt's text, where the answer begins with it.
    """

    prompt: list[int]
    max_tokens: int
    sampling: SamplingParams
    stops: list[str]
    answers: int = 1
    schema: str | None = None
    loose_schema: str | None = None
    logprobs: int | None = None
    echo: str | None = None
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
        refuse_images(request)
        offered = request.tools if request.tools and request.tool_choice != "none" else []
        tools = self._tools(request, offered) if offered else None
        logprobs = (request.top_logprobs or 0) if request.logprobs else None
        self._check_logprobs(logprobs, "top_logprobs")
        schema, loose_schema = await self._schemas(request, offered, tools)
        text = self._tokenizer.render(request.messages, offered)
        plan = await self._plan(request, text)
        return replace(plan, schema=schema, loose_schema=loose_schema, logprobs=logprobs, tools=tools)

    async def completion(self, request: CompletionRequest) -> Plan:
        """The plan of a text completion with one prompt. Raises ServingError."""
        self._check_answers(request.answers)
        if request.logprobs is not None and not request.echo:
            self._check_logprobs(request.logprobs, "logprobs")
        [given] = request.prompts
        plan = await self._plan(request, given)
        if not request.echo:
            return replace(plan, logprobs=request.logprobs)
        text = given if isinstance(given, str) else self._tokenizer.decode(given)
        return replace(plan, logprobs=request.logprobs, echo=text)

    async def _plan(self, request: ChatRequest | CompletionRequest, given: str | list[int]) -> Plan:
        chat = isinstance(request, ChatRequest)
        context, asked = self._engine.context_tokens, request.token_limit
        prompt = await self._tokens(given, asked, chat)
        room = context - len(prompt)
        if room < (0 if asked == 0 else 1) or (asked or 0) > room:
            raise _too_long(context, len(prompt), asked, chat)
        default = min(room, self._settings.default_max_tokens or room)
        limit = default if asked is None else asked
        return Plan(prompt, limit, _sampling(request), request.stop_strings, request.answers)

    async def _tokens(self, given: str | list[int], asked: int | None, chat: bool) -> list[int]:
        """The prompt in tokens. Raises ServingError for ids that the tokenizer does not have."""
        if not isinstance(given, str):
            if (unknown := max(given)) >= (size := self._tokenizer.size):
                text = f"The prompt holds the token id {unknown}; this model's tokenizer has {size} tokens."
                raise invalid(text, param="prompt", code="invalid_value")
            return given
        if (fewest := self._tokenizer.fewest_tokens(given)) > (context := self._engine.context_tokens):
            raise _too_long(context, fewest, asked, chat)
        encode = self._tokenizer.encode_prompt if chat else partial(self._tokenizer.encode, with_special=True)
        if len(given) > _LARGE_TEXT:
            return await asyncio.to_thread(encode, given)
        return encode(given)

    async def _schemas(
        self, request: ChatRequest, offered: list[Tool], tools: ToolPlan | None
    ) -> tuple[str | None, str | None]:
        """What the answer is held to, and what in case the engine cannot; None for an answer that is free."""
        wanted = request.response_format
        functions = [tool.function for tool in offered if tools and tool.function.name in tools.names]
        if tools is not None and tools.forced:
            schema = partial(structured_output.call_schema, functions, only=tools.only is not None)
            strict = any(function.strict for function in functions)
        elif wanted is not None and wanted.type != "text":
            schema = partial(structured_output.answer_schema, wanted, functions)
            strict = bool(wanted.json_schema and wanted.json_schema.strict)
        else:
            return None, None
        if not self._engine.capabilities.schemas:
            raise self._cannot("tool_choice" if tools and tools.forced else "response_format")
        # Off the event loop: a schema may have thousands of parts.
        exact = await asyncio.to_thread(schema)
        return exact, None if strict else await asyncio.to_thread(schema, loose=True)

    def _tools(self, request: ChatRequest, offered: list[Tool]) -> ToolPlan:
        """What is planned for the tools."""
        choice = request.tool_choice or "auto"
        names = {tool.function.name for tool in offered}
        if isinstance(choice, NamedTool):
            names = {choice.function.name}
        forced = choice != "auto"
        only = min(names) if forced and len(names) == 1 else None
        syntax = self._tokenizer.tool_call_syntax
        marks = (syntax.begin, syntax.end or syntax.begin)
        visible = frozenset().union(*(self._tokenizer.control_tokens(mark) for mark in marks))
        several = request.parallel_tool_calls is not False
        formatted = request.response_format is not None and request.response_format.type != "text"
        return ToolPlan(names, syntax, visible, forced, only, several, formatted and not forced)

    def _check_answers(self, answers: int) -> None:
        if answers > self._settings.max_running:
            most = self._settings.max_running
            raise invalid(f"This server computes {most} answers at once.", param="n", code="invalid_value")

    def _check_logprobs(self, logprobs: int | None, field: str) -> None:
        if logprobs is not None and logprobs > (most := self._engine.capabilities.top_logprobs):
            raise self._cannot(field, f" above {most}")

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
    """In words by which clients know that a shorter prompt, or a longer model, would do."""
    field = "messages" if chat else "prompt"
    wanted = (
        f"{prompt + (asked or 0)} tokens ({prompt} in the {field}, {asked or 'at least 1'} in the completion)"
    )
    return context_exceeded(
        f"This model's maximum context length is {context} tokens. However, you requested {wanted}. "
        f"Please reduce the length of the {field} or completion.",
        field,
    )
