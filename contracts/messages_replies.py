"""Anthropic's Messages protocol: replies, the events of a stream, and errors.

Source: Anthropic's API reference, "Messages", "Streaming messages" and "Errors".
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorType

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]

STATUS_OVERLOADED = 529
"""What this protocol has where OpenAI's has 503."""


class _Reply(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="ignore")


class MessageTextReply(_Reply):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str


class MessageToolUse(_Reply):
    """A call of a tool; `input` is what it is called with."""

    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]


class MessageUsage(_Reply):
    """Token counts of one request, as the model's own tokenizer counts them."""

    input_tokens: int = 0
    output_tokens: int = 0


class MessageRefusal(_Reply):
    """Why an answer was refused: the guard and what it found."""

    type: Literal["refusal"] = "refusal"
    category: None = None
    explanation: str | None = None


class MessageReply(_Reply):
    """A whole reply; the stop fields are null where it has only begun (`message_start`)."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[MessageTextReply | MessageToolUse] = Field(default_factory=list)
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    stop_details: MessageRefusal | None = None
    usage: MessageUsage = MessageUsage()


class MessageEvent(_Reply):
    """One event of a streamed reply. Its `type`, which is its name too, tells which other fields it has."""

    type: Literal[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    ]


MessageErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "timeout_error",
    "api_error",
    "overloaded_error",
]


class MessageError(_Reply):
    """The inside of an error: its type is for programs, its message tells a person what to change.

    API Gateway's own errors have the types and further fields of contracts.errors here.
    """

    type: MessageErrorType | str
    message: str


class MessageErrorReply(_Reply):
    """Body of every reply of this protocol with a status of 400 or above, and of an error event."""

    type: Literal["error"] = "error"
    error: MessageError
    request_id: str | None = None


def error_type(type: ErrorType, status: int) -> MessageErrorType:
    """What this protocol calls an error of the API."""
    if status == 413:
        return "request_too_large"
    return "api_error" if type == "server_error" else type
