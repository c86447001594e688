"""What callers can ask a model for, and how each of these protocols names the same things.

Stages work on any operation; what differs between chat, text completion and embeddings stands here alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel

from contracts.chat import AnswerMessage, ChatCompletion, ChatRequest, Choice, Usage
from contracts.completions import Completion, CompletionChoice, CompletionRequest
from contracts.embeddings import EmbeddingsRequest

ModelRequest = ChatRequest | CompletionRequest | EmbeddingsRequest


@dataclass
class Gathered:
    """One answer put together from its chunks."""

    index: int
    text: str = ""
    finish_reason: str | None = None
    content_filter: str | None = None


class Operation:
    """One protocol. `id_prefix` begins the ids of its answers; `route` is its public path."""

    route: ClassVar[str]
    id_prefix: ClassVar[str]
    request: ClassVar[type[ChatRequest] | type[CompletionRequest] | type[EmbeddingsRequest]]


class Generation(Operation, ABC):
    """A protocol that generates text, streamed or whole."""

    chunk_object: ClassVar[str]

    @abstractmethod
    def text(self, choice: dict[str, Any]) -> str:
        """What a chunk's choice adds to the answer."""

    @abstractmethod
    def set_text(self, choice: dict[str, Any], text: str) -> None:
        """Replace it."""

    @abstractmethod
    def whole(
        self, id: str, created: int, model: str, answers: list[Gathered], usage: Usage | None
    ) -> BaseModel:
        """The body of a reply that is not streamed."""


class Chat(Generation):
    """`/v1/chat/completions`."""

    route = "/v1/chat/completions"
    id_prefix = "chatcmpl-"
    chunk_object = "chat.completion.chunk"
    request = ChatRequest

    def text(self, choice: dict[str, Any]) -> str:
        """See Generation."""
        return (choice.get("delta") or {}).get("content") or ""

    def set_text(self, choice: dict[str, Any], text: str) -> None:
        """See Generation."""
        choice["delta"] = {**(choice.get("delta") or {}), "content": text}

    def whole(
        self, id: str, created: int, model: str, answers: list[Gathered], usage: Usage | None
    ) -> ChatCompletion:
        """See Generation."""
        choices = [
            Choice.model_validate(
                {
                    "index": answer.index,
                    "message": AnswerMessage(content=answer.text),
                    "finish_reason": answer.finish_reason,
                    "content_filter": answer.content_filter,
                }
            )
            for answer in answers
        ]
        return ChatCompletion(id=id, created=created, model=model, choices=choices, usage=usage)


class TextCompletion(Generation):
    """`/v1/completions`."""

    route = "/v1/completions"
    id_prefix = "cmpl-"
    chunk_object = "text_completion"
    request = CompletionRequest

    def text(self, choice: dict[str, Any]) -> str:
        """See Generation."""
        return choice.get("text") or ""

    def set_text(self, choice: dict[str, Any], text: str) -> None:
        """See Generation."""
        choice["text"] = text

    def whole(
        self, id: str, created: int, model: str, answers: list[Gathered], usage: Usage | None
    ) -> Completion:
        """See Generation."""
        choices = [
            CompletionChoice.model_validate(
                {
                    "index": answer.index,
                    "text": answer.text,
                    "finish_reason": answer.finish_reason,
                    "content_filter": answer.content_filter,
                }
            )
            for answer in answers
        ]
        return Completion(id=id, created=created, model=model, choices=choices, usage=usage)


class Embeddings(Operation):
    """`/v1/embeddings`."""

    route = "/v1/embeddings"
    id_prefix = "embd-"
    request = EmbeddingsRequest


CHAT = Chat()
TEXT_COMPLETION = TextCompletion()
EMBEDDINGS = Embeddings()
