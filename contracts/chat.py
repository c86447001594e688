"""The OpenAI chat-completions protocol, as far as Evergreen speaks it.

Used twice: between the API and its callers, and between the inference function and the model container.
Requests take what clients send (contracts.requests says what is ignored and what is refused); answers are
what the official clients parse. Source: the OpenAI API reference, "Chat completions".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from contracts.legacy_chat import current_form
from contracts.messages import ImagePart, Message, ToolCall
from contracts.requests import (
    IgnoredFields,
    RequestModel,
    Stop,
    ignored,
    stop_strings,
    unsupported,
    without_nulls,
)
from contracts.tools import (
    MAX_TOOLS,
    AllowedTools,
    Function,
    FunctionCallChoice,
    NamedTool,
    ResponseFormat,
    Tool,
    ToolChoice,
)

FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "function_call"]

MAX_COMPLETION_TOKENS = 131_072
"""Upper bound of a request's token limit; the model's own context is checked by the container."""
MAX_ANSWERS = 8
"""Most answers to one request (`n`)."""
MAX_TOP_LOGPROBS = 20


class _Answer(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="ignore")


class StreamOptions(RequestModel):
    """Options of a streamed reply."""

    include_usage: bool = False
    include_obfuscation: bool | None = ignored("chunks carry no padding")


class ChatRequest(IgnoredFields):
    """Body of `POST /v1/chat/completions` and of the container's `POST /invocations`."""

    model: str = Field(min_length=1, max_length=256)
    messages: list[Message] = Field(min_length=1, max_length=2048)
    max_tokens: Annotated[int, Field(ge=1, le=MAX_COMPLETION_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_COMPLETION_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = Field(
        default=None, exclude=True, description="Only an empty one is taken."
    )
    stop: Stop | None = None
    seed: int | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    functions: Annotated[list[Function], Field(min_length=1, max_length=MAX_TOOLS)] | None = Field(
        default=None,
        exclude=True,
        description="The older form of `tools`.",
        json_schema_extra={"deprecated": True},
    )
    function_call: FunctionCallChoice | None = Field(
        default=None,
        exclude=True,
        description="The older form of `tool_choice`.",
        json_schema_extra={"deprecated": True},
    )
    tools: Annotated[list[Tool], Field(min_length=1, max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, max_length=256)
    metadata: dict[str, str] | None = None
    modalities: list[Literal["text", "audio"]] | None = ignored("answers are text; 'audio' is refused")
    reasoning_effort: str | None = ignored("the model does not reason apart from its answer")
    reasoning: dict[str, Any] | None = ignored("as reasoning_effort")
    include_reasoning: bool | None = ignored("as reasoning_effort")
    verbosity: str | None = ignored("the model has no such control")
    prediction: dict[str, Any] | None = ignored("an answer is computed without a draft of the caller's")

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_set(cls, value: Any) -> Any:
        return current_form(without_nulls(value)) if isinstance(value, dict) else value

    @field_validator("logit_bias")
    @classmethod
    def _empty(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value:
            raise unsupported("no engine here weighs single tokens; leave it out or empty")
        return value

    @field_validator("modalities")
    @classmethod
    def _text_only(cls, value: list[str] | None) -> list[str] | None:
        if value and "audio" in value:
            raise unsupported("answers are text")
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _asked_for(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise ValueError("needs 'logprobs' to be true")
        return value

    @field_validator("tools")
    @classmethod
    def _names_differ(cls, tools: list[Tool] | None) -> list[Tool] | None:
        names = [tool.function.name for tool in tools or []]
        if len(set(names)) < len(names):
            raise ValueError("two functions have the same name")
        return tools

    @field_validator("tool_choice")
    @classmethod
    def _known(cls, choice: str | NamedTool | AllowedTools | None, info: ValidationInfo) -> Any:
        names = {tool.function.name for tool in info.data.get("tools") or []}
        if choice is not None and choice != "none" and not names:
            raise ValueError("needs 'tools' to choose from")
        if isinstance(choice, AllowedTools):  # all of them known, it would have become fewer tools
            asked = [tool.function.name for tool in choice.allowed_tools.tools]
        else:
            asked = [choice.function.name] if isinstance(choice, NamedTool) else []
        if unknown := [name for name in asked if name not in names]:
            raise ValueError(f"there is no function '{unknown[0][:64]}' among 'tools'")
        return choice

    @property
    def images(self) -> dict[str, str]:
        """The URLs of all images, by their place in the request: `messages[0].content[1]`."""
        return {
            f"messages[{number}].content[{index}]": part.image_url.url
            for number, message in enumerate(self.messages)
            if isinstance(message.content, list)
            for index, part in enumerate(message.content)
            if isinstance(part, ImagePart)
        }

    @property
    def answers(self) -> int:
        """How many answers are asked for."""
        return self.n or 1

    @property
    def characters(self) -> int:
        """Length of all that the conversation says."""
        calls = (call for message in self.messages for call in message.tool_calls or [])
        said = sum(len(message.text) for message in self.messages)
        return said + sum(len(call.function.arguments) for call in calls)

    @property
    def token_limit(self) -> int | None:
        """`max_completion_tokens`, or its older name `max_tokens`; None when the caller set neither."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stop_strings(self) -> list[str]:
        """`stop` as a list, empty strings left out."""
        return stop_strings(self.stop)


class Usage(_Answer):
    """Token counts of one request, as the model's own tokenizer counts them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(_Answer):
    """The assistant's turn in a whole (not streamed) answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    tool_calls: list[ToolCall] | None = None


class TopLogprob(_Answer):
    """A token with the natural logarithm of its probability; `bytes` is its text in UTF-8."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(TopLogprob):
    """A token of the answer, and which ones were likeliest in its place."""

    top_logprobs: list[TopLogprob] = Field(default_factory=list)


class ChoiceLogprobs(_Answer):
    """The log probabilities of an answer's tokens, in order."""

    content: list[TokenLogprob] | None = None


class Choice(_Answer):
    """One answer of a whole reply."""

    index: int = 0
    message: AnswerMessage
    finish_reason: FinishReason | None = None
    logprobs: ChoiceLogprobs | None = None
    content_filter: str | None = None  # `<guard>:<label>` of a refused answer


class ChatCompletion(_Answer):
    """A whole reply: `object` is `chat.completion`; `created` is in seconds since the epoch."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class FunctionDelta(_Answer):
    """What a chunk adds to a call: the name comes first, the arguments' text in pieces."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(_Answer):
    """What a chunk adds to the call at `index`; id, type and name stand in its first chunk only."""

    index: int = 0
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta | None = None


class Delta(_Answer):
    """What one stream chunk adds to the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(_Answer):
    """One answer's share of a stream chunk."""

    index: int = 0
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: ChoiceLogprobs | None = None
    stop_reason: str | int | None = None  # as vLLM has it: the stop string, or its token, at which it ended


class ChatChunk(_Answer):
    """One `data:` line of a streamed reply; the last one before `[DONE]` may carry only usage."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
