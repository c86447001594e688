"""The OpenAI chat-completions protocol, as far as Evergreen speaks it.

Used twice: between the API and its callers, and between the inference function and the model container.
Requests are strict (an unknown field is an error that names it); answers are what the official
clients parse. Source: the OpenAI API reference, "Chat completions".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from contracts import json_schema

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]

MAX_COMPLETION_TOKENS = 131_072
"""Upper bound of a request's token limit; the model's own context is checked by the container."""
MAX_ANSWERS = 8
"""Most answers to one request (`n`)."""
MAX_TOP_LOGPROBS = 20
MAX_TOOLS = 64
LONGEST_NAME = 64
"""Characters of a message's `name` and of a called function's."""


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TextPart(_Request):
    """One text piece of a message's content."""

    type: Literal["text"]
    text: str


class CalledFunction(_Request):
    """A function the model wants called; `arguments` is the JSON text it wrote."""

    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    arguments: str


class ToolCall(_Request):
    """One call of a tool, in an answer and in the conversation that follows it."""

    id: str = Field(min_length=1, max_length=128)
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(_Request):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = Field(default=None, max_length=LONGEST_NAME)
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_call_id: str | None = Field(default=None, max_length=128)

    @model_validator(mode="after")
    def _has_content(self) -> Message:
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a message of role '{self.role}' needs content")
        if self.tool_calls is not None and self.role != "assistant":
            raise ValueError(f"a message of role '{self.role}' has no tool_calls")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a message of role 'tool', and only that, needs a tool_call_id")
        return self

    @property
    def text(self) -> str:
        """The content as one string; parts are joined in order."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content)


class StreamOptions(_Request):
    """Options of a streamed reply."""

    include_usage: bool = False


def _checked(schema: dict[str, Any]) -> dict[str, Any]:
    json_schema.check(schema)
    return schema


class Function(_Request):
    """A function that the model may call; `parameters` is a JSON Schema of an object."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = Field(default=None, max_length=8192)
    parameters: dict[str, Any] | None = None
    strict: bool | None = None  # arguments of a forced call are always held to the schema

    @field_validator("parameters")
    @classmethod
    def _object(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None and schema and schema.get("type") != "object":
            raise ValueError("the schema of a function's parameters must have the type 'object'")
        return schema and _checked(schema)


class Tool(_Request):
    """A tool of the only kind there is."""

    type: Literal["function"]
    function: Function


class FunctionName(_Request):
    """Names one function."""

    name: str


class NamedTool(_Request):
    """The choice of one function: it must be called."""

    type: Literal["function"]
    function: FunctionName


class NamedSchema(_Request):
    """The JSON Schema an answer is held to; see contracts.json_schema for what it may say."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = Field(default=None, max_length=8192)
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None  # an answer is always held to the schema

    @field_validator("schema_")
    @classmethod
    def _supported(cls, schema: dict[str, Any]) -> dict[str, Any]:
        return _checked(schema)


class ResponseFormat(_Request):
    """The form of an answer: any text, any JSON object, or JSON that keeps to a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("the type 'json_schema', and only that, needs a 'json_schema'")
        return self


class ChatRequest(_Request):
    """Body of `POST /v1/chat/completions` and of the container's `POST /invocations`."""

    model: str = Field(min_length=1, max_length=256)
    messages: list[Message] = Field(min_length=1, max_length=2048)
    max_tokens: Annotated[int, Field(ge=1, le=MAX_COMPLETION_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_COMPLETION_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: int | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, max_length=256)
    metadata: dict[str, str] | None = None

    @field_validator("top_logprobs")
    @classmethod
    def _asked_for(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("logprobs"):
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
    def _known(cls, choice: str | NamedTool | None, info: ValidationInfo) -> str | NamedTool | None:
        names = {tool.function.name for tool in info.data.get("tools") or []}
        if choice is not None and choice != "none" and not names:
            raise ValueError("needs 'tools' to choose from")
        if isinstance(choice, NamedTool) and choice.function.name not in names:
            raise ValueError(f"there is no function '{choice.function.name[:64]}' among 'tools'")
        return choice

    @field_validator("response_format")
    @classmethod
    def _alone(cls, value: ResponseFormat | None, info: ValidationInfo) -> ResponseFormat | None:
        offered = info.data.get("tools") and info.data.get("tool_choice") != "none"
        if value is not None and value.type != "text" and offered:
            raise ValueError("goes without 'tools': set tool_choice to 'none', or leave one of the two out")
        return value

    @property
    def answers(self) -> int:
        """How many answers are asked for."""
        return self.n or 1

    @property
    def token_limit(self) -> int | None:
        """`max_completion_tokens`, or its older name `max_tokens`; None when the caller set neither."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stop_strings(self) -> list[str]:
        """`stop` as a list, empty strings left out."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in stops if text]


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


class ChatChunk(_Answer):
    """One `data:` line of a streamed reply; the last one before `[DONE]` may carry only usage."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class ModelCard(_Answer):
    """One entry of `GET /v1/models`."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "evergreen"


class ModelList(_Answer):
    """Reply of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
