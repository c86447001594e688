"""What callers can ask a model for, and how each of these protocols names the same things.

Stages work on any operation; what differs between chat, text completion and embeddings stands here; the other
operations about texts have a module of their own, `text_operations`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from contracts import container
from contracts.access import Principal
from contracts.catalogue import ModelKind
from contracts.chat import AnswerMessage, ChatCompletion, ChatRequest, Choice, Usage
from contracts.completions import Completion, CompletionChoice, CompletionRequest
from contracts.embeddings import EmbeddingList, EmbeddingsRequest
from contracts.texts import TextsAnswer, TextsRequest
from lambdas.runtime.errors import ApiError

ModelRequest = ChatRequest | CompletionRequest | TextsRequest

NOTES = ("reasoning_content", "reasoning")
"""Fields of a chat's delta in which engines put what a reasoning model notes apart from its answer."""


@dataclass
class Gathered:
    """One answer put together from its chunks."""

    index: int
    text: str = ""
    finish_reason: str | None = None
    content_filter: str | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)  # tool calls, as in a whole answer
    logprobs: list[Any] = field(default_factory=list)

    def add_calls(self, pieces: list[dict[str, Any]]) -> None:
        """Take what a chunk adds to the tool calls: id and name once, arguments bit by bit."""
        for piece in pieces:
            function = piece.get("function") or {}
            if piece.get("index", 0) >= len(self.calls):
                empty = {"name": function.get("name") or "", "arguments": ""}
                self.calls.append({"id": piece.get("id") or "", "type": "function", "function": empty})
            self.calls[piece.get("index", 0)]["function"]["arguments"] += function.get("arguments") or ""


class Rendering(Protocol):
    """One answer in the form of a protocol, fed with its chunks in order: as events, or whole."""

    def events(self, chunk: dict[str, Any]) -> Iterable[bytes]:
        """What a chunk becomes on a stream."""

    def waiting(self) -> Iterable[bytes]:
        """What shows that the connection lives while the first chunk is long in coming."""

    def end(self) -> Iterable[bytes]:
        """What follows the last chunk."""

    def failure(self, error: ApiError) -> Iterable[bytes]:
        """How a stream ends that has begun and breaks off."""

    def gather(self, chunk: dict[str, Any]) -> None:
        """Take a chunk of an answer that is not streamed."""

    def whole(self) -> bytes:
        """The body, of all that was gathered. Raises ApiError where there was nothing."""


class Operation:
    """One protocol. `id_prefix` begins the ids of its answers; `route` is its public path; `kinds` are
    those of the models it asks.

    `request` is the body in the protocol's own form. A protocol that the model does not speak is an adapter:
    it makes another one's request of it, whose `container_route` it names, and of the chunks its own reply.
    """

    route: ClassVar[str]
    container_route: ClassVar[str]
    id_prefix: ClassVar[str]
    kinds: ClassVar[tuple[ModelKind, ...]]
    request: ClassVar[type[BaseModel]]

    def model_request(self, asked: Any, principal: Principal) -> ModelRequest:
        """What the model is asked; `asked` is a `request`. Raises ApiError."""
        request: ModelRequest = asked
        return request

    def error_body(self, error: ApiError, request_id: str) -> str:
        """The JSON text of a reply that is an error."""
        return error.body

    def status(self, status: int) -> int:
        """The status of a reply as the protocol has it."""
        return status

    def headers(self, request_id: str, reply: Mapping[str, str]) -> dict[str, str]:
        """What the protocol adds to the headers of a reply."""
        return {}


class Generation(Operation, ABC):
    """A protocol that generates text, streamed or whole."""

    chunk_object: ClassVar[str]
    kinds = ("chat",)

    @abstractmethod
    def text(self, choice: dict[str, Any]) -> str:
        """What a chunk's choice adds to the answer."""

    @abstractmethod
    def set_text(self, choice: dict[str, Any], text: str) -> None:
        """Replace it."""

    def calls(self, choice: dict[str, Any]) -> list[dict[str, Any]]:
        """What a chunk's choice adds to the answer's tool calls."""
        return []

    def set_calls(self, choice: dict[str, Any], calls: list[dict[str, Any]]) -> None:
        """Replace it; an empty list takes it away."""

    def drop_notes(self, choice: dict[str, Any]) -> None:
        """Take away what a reasoning model notes apart from its answer."""

    def gather(self, answer: Gathered, choice: dict[str, Any]) -> None:
        """Add a chunk's choice to the answer."""
        answer.text += self.text(choice)
        answer.add_calls(self.calls(choice))
        answer.logprobs += (choice.get("logprobs") or {}).get("content") or []
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
        answer.content_filter = choice.get("content_filter") or answer.content_filter

    def rendering(
        self, answer_id: str, created: int, asked: BaseModel, body: ModelRequest
    ) -> Rendering | None:
        """The answer in the protocol's form; None where that is the chunks' own. `body` is what is asked."""
        return None

    @abstractmethod
    def whole(
        self, id: str, created: int, model: str, answers: list[Gathered], usage: Usage | None
    ) -> BaseModel:
        """The body of a reply that is not streamed."""


class Chat(Generation):
    """`/v1/chat/completions`."""

    route = container_route = container.ROUTE_CHAT
    id_prefix = "chatcmpl-"
    chunk_object = "chat.completion.chunk"
    request: ClassVar[type[BaseModel]] = ChatRequest

    def text(self, choice: dict[str, Any]) -> str:
        """See Generation."""
        return (choice.get("delta") or {}).get("content") or ""

    def set_text(self, choice: dict[str, Any], text: str) -> None:
        """See Generation."""
        choice["delta"] = {**(choice.get("delta") or {}), "content": text}

    def calls(self, choice: dict[str, Any]) -> list[dict[str, Any]]:
        """See Generation."""
        return (choice.get("delta") or {}).get("tool_calls") or []

    def set_calls(self, choice: dict[str, Any], calls: list[dict[str, Any]]) -> None:
        """See Generation."""
        choice["delta"] = {**(choice.get("delta") or {}), "tool_calls": calls}
        if not calls:
            del choice["delta"]["tool_calls"]

    def drop_notes(self, choice: dict[str, Any]) -> None:
        """See Generation."""
        for name in NOTES:
            (choice.get("delta") or {}).pop(name, None)

    def whole(
        self, id: str, created: int, model: str, answers: list[Gathered], usage: Usage | None
    ) -> ChatCompletion:
        """See Generation."""
        choices = [
            Choice.model_validate(
                {
                    "index": answer.index,
                    "message": AnswerMessage.model_validate(
                        {
                            "content": answer.text or (None if answer.calls else ""),
                            "tool_calls": answer.calls or None,
                        }
                    ),
                    "finish_reason": answer.finish_reason,
                    "logprobs": {"content": answer.logprobs} if answer.logprobs else None,
                    "content_filter": answer.content_filter,
                }
            )
            for answer in answers
        ]
        return ChatCompletion(id=id, created=created, model=model, choices=choices, usage=usage)


class TextCompletion(Generation):
    """`/v1/completions`."""

    route = container_route = container.ROUTE_COMPLETIONS
    id_prefix = "cmpl-"
    chunk_object = "text_completion"
    request = CompletionRequest

    def text(self, choice: dict[str, Any]) -> str:
        """See Generation."""
        return choice.get("text") or ""

    def set_text(self, choice: dict[str, Any], text: str) -> None:
        """See Generation."""
        choice["text"] = text

    def gather(self, answer: Gathered, choice: dict[str, Any]) -> None:
        """See Generation. Log probabilities are lists side by side here."""
        super().gather(answer, choice)
        if choice.get("logprobs"):
            answer.logprobs.append(choice["logprobs"])

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
                    "logprobs": _side_by_side(answer.logprobs),
                    "content_filter": answer.content_filter,
                }
            )
            for answer in answers
        ]
        return Completion(id=id, created=created, model=model, choices=choices, usage=usage)


def _side_by_side(pieces: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The lists of all pieces, one after another."""
    if not pieces:
        return None
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    return {name: [value for piece in pieces for value in piece.get(name) or []] for name in names}


class Unary(Operation, ABC):
    """A protocol about texts, with one body in and one body out."""

    def body(self, request: Any) -> bytes:
        """What the container gets. Fields that the caller left out stay out."""
        return request.model_dump_json(exclude_unset=True).encode()  # type: ignore[no-any-return]

    @abstractmethod
    def read(self, asked: Any, body: bytes) -> TextsAnswer:
        """The container's reply to what the caller asked. Raises ValueError where it does not fit."""


class Embeddings(Unary):
    """`/v1/embeddings`."""

    route = container_route = container.ROUTE_EMBEDDINGS
    id_prefix = "embd-"
    kinds = ("embedding",)
    request = EmbeddingsRequest

    def read(self, asked: EmbeddingsRequest, body: bytes) -> EmbeddingList:
        """See Unary."""
        answer = EmbeddingList.model_validate_json(body)
        if len(answer.data) != len(asked.texts):
            raise ValueError("as many vectors as there are texts")
        return answer


CHAT = Chat()
TEXT_COMPLETION = TextCompletion()
EMBEDDINGS = Embeddings()
