"""From bytes to a checked request, and from text pieces to OpenAI's answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from contracts import adapters, chat, classification, completions, embeddings
from contracts.chat import (
    AnswerMessage,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    Delta,
    FinishReason,
    Usage,
)
from model_code.serving.errors import ServingError, invalid

_FIELDS = {
    field.alias or name
    for module in (chat, completions, embeddings, classification, adapters)
    for model in vars(module).values()
    if isinstance(model, type) and issubclass(model, BaseModel)
    for name, field in model.model_fields.items()
}
DONE = b"data: [DONE]\n\n"

R = TypeVar("R", bound=BaseModel)


def parse(kind: type[R], body: bytes) -> R:
    """The request of a kind in a body; raises ServingError that names the field at fault."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        message = f"The body is not valid UTF-8: byte {error.start} is at fault."
        raise invalid(message, code="invalid_utf8") from None
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        # The input is left out: it is the caller's text and must not travel into logs by way of messages.
        raise _explain(error.errors(include_input=False, include_url=False)[0]) from None


def _explain(error: ErrorDetails) -> ServingError:
    kind, place = error["type"], _place(error["loc"], error["type"] == "extra_forbidden")
    if kind == "json_invalid":
        return invalid(f"The body is not valid JSON: {error['msg']}.", code="invalid_json")
    if kind == "extra_forbidden":
        return invalid(f"Unknown field '{place}'.", param=place, code="unknown_field")
    if kind == "missing":
        return invalid(f"The field '{place}' is required.", param=place, code="missing_field")
    where = f"'{place}': " if place else ""
    return invalid(f"{where}{error['msg']}.", param=place or None, code="invalid_value")


def _place(location: tuple[int | str, ...], with_last: bool) -> str:
    """`messages[0].content` from pydantic's location, whose labels of union branches mean nothing outside."""
    place = ""
    for index, piece in enumerate(location):
        if isinstance(piece, int):
            place += f"[{piece}]"
        elif piece in _FIELDS or (with_last and index == len(location) - 1):
            place += f".{piece}" if place else piece
    return place


@dataclass(frozen=True, slots=True)
class Piece:
    """What a generation yields: text (may be empty), tokens so far, and why it ended on the last piece."""

    text: str
    completion_tokens: int
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class AnswerWriter:
    """Writes one request's answer, whole or in chunks, with the same id, time and model throughout."""

    id: str
    model: str
    prompt_tokens: int
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, last: Piece) -> bytes:
        """The body of a reply that is not streamed."""
        choice = Choice(
            index=0,
            message=AnswerMessage(role="assistant", content=text),
            finish_reason=last.finish_reason,
            logprobs=None,
        )
        return (
            ChatCompletion(
                id=self.id,
                object="chat.completion",
                created=self.created,
                model=self.model,
                choices=[choice],
                usage=self._usage(last),
            )
            .model_dump_json()
            .encode()
        )

    def opening(self) -> bytes:
        """The first event of a stream: whose turn it is."""
        return self._chunk(Delta(role="assistant", content=""), None)

    def text(self, text: str) -> bytes:
        """An event that adds text."""
        return self._chunk(Delta(content=text), None)

    def closing(self, last: Piece) -> bytes:
        """The event that says why the answer ended."""
        return self._chunk(Delta(), last.finish_reason)

    def usage(self, last: Piece) -> bytes:
        """The event with the token counts, which has no choices."""
        return self._event(self._envelope([], usage=self._usage(last)))

    def _chunk(self, delta: Delta, finish_reason: FinishReason | None) -> bytes:
        return self._event(self._envelope([ChunkChoice(index=0, delta=delta, finish_reason=finish_reason)]))

    def _envelope(self, choices: list[ChunkChoice], **extra: Usage) -> ChatChunk:
        return ChatChunk(
            id=self.id,
            object="chat.completion.chunk",
            created=self.created,
            model=self.model,
            choices=choices,
            **extra,
        )

    @staticmethod
    def _event(chunk: BaseModel) -> bytes:
        # Only what was set on purpose: OpenAI's chunks leave out what they do not say.
        return b"data: " + chunk.model_dump_json(exclude_unset=True).encode() + b"\n\n"

    def _usage(self, last: Piece) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=last.completion_tokens,
            total_tokens=self.prompt_tokens + last.completion_tokens,
        )
