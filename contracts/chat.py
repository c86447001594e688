"""The OpenAI chat-completions protocol, as far as Evergreen speaks it.

Spoken twice: by the front door to its callers and by the front door to the model container.
Requests are strict (an unknown field is an error that names it); answers are what the official
clients parse. Source: the OpenAI API reference, "Chat completions".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]

MAX_COMPLETION_TOKENS = 131_072
"""Upper bound of a request's token limit; the model's own context is checked by the container."""


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TextPart(_Request):
    """One text piece of a message's content."""

    type: Literal["text"]
    text: str


class Message(_Request):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = Field(default=None, max_length=64)

    @model_validator(mode="after")
    def _has_content(self) -> Message:
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a message of role '{self.role}' needs content")
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
    n: Literal[1] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, max_length=256)
    metadata: dict[str, str] | None = None

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


class Choice(_Answer):
    """One answer of a whole reply."""

    index: int = 0
    message: AnswerMessage
    finish_reason: FinishReason | None = None
    logprobs: Any | None = None
    content_filter: str | None = None  # `<guard>:<label>` of a refused answer


class ChatCompletion(_Answer):
    """A whole reply: `object` is `chat.completion`; `created` is in seconds since the epoch."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class Delta(_Answer):
    """What one stream chunk adds to the answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(_Answer):
    """One answer's share of a stream chunk."""

    index: int = 0
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: Any | None = None


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
