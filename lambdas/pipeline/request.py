"""The phases of a request. Each is made from the one before it, and is what the next stages take.

`IncomingRequest` (what came) → `Request` (parsed, of a known principal) → `Admission` (checked and routed)
→ `Response` (what goes back: the one thing that changes while the answer flows). A stage that needs an
earlier phase says so in its signature, so a wrong order is a type error. Knows neither AWS nor HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from contracts.access import Principal
from contracts.catalogue import ModelEntry
from contracts.chat import ChatRequest
from contracts.completions import CompletionRequest
from contracts.moderation import GUARDS, ModerationRequest
from contracts.routing import Routing
from lambdas.pipeline.guards.base import Finding, GuardReport
from lambdas.pipeline.operations import Generation, ModelRequest, Operation
from lambdas.runtime.errors import ApiError
from lambdas.runtime.tracing import Span, Trace

Chunk = dict[str, Any]
"""One parsed `chat.completion.chunk`; see contracts.chat.ChatChunk."""

STATUS_CLIENT_GONE = 499
"""Recorded where the caller left before the end; no reply ever carries it."""


@dataclass(frozen=True)
class IncomingRequest:
    """What API Gateway handed over. `received_at`: seconds since the epoch; `deadline_ms`: milliseconds."""

    request_id: str
    body: bytes
    authorizer: dict[str, str]
    headers: dict[str, str]  # names in lower case
    trace_id: str | None
    received_at: float
    deadline_ms: int | None = None
    principal: str = ""  # the ARN of a caller whose signature API Gateway has checked
    will_retry: Callable[[int], bool] = lambda status: False  # whether the same request follows on a status


@dataclass(frozen=True)
class Request:
    """A parsed request of a known principal for one model of the catalogue.

    `asked` is the body in the form of the caller's protocol, `body` what the model is asked; `body.model` is
    the model's own name, whichever alias the caller used. `context` is the principal as the authorizer tells
    of it.
    """

    incoming: IncomingRequest
    operation: Operation
    entry: ModelEntry
    asked: BaseModel
    body: ModelRequest
    principal: Principal
    context: Mapping[str, str]

    @property
    def answer_id(self) -> str:
        """The answer's id, by which feedback finds the request again."""
        return self.operation.id_prefix + self.incoming.request_id

    @property
    def streamed(self) -> bool:
        """Whether the caller asked for a stream."""
        return isinstance(self.body, ChatRequest | CompletionRequest) and self.body.stream


@dataclass(frozen=True)
class Route:
    """The split in force and, where it or the caller names one, the variant that is to answer."""

    routing: Routing | None = None
    variant: str | None = None
    is_callers_choice: bool = False


@dataclass(frozen=True)
class Admission:
    """A request that may be answered. `body` is as the guards leave it.

    `deadline_ms`: when the caller stops waiting, in milliseconds since the epoch. `blocked`: the finding for
    which the model is not asked.
    """

    request: Request
    body: ModelRequest
    route: Route
    deadline_ms: int | None = None
    blocked: Finding | None = None

    @property
    def is_by_guards(self) -> bool:
        """Whether the guards answer, and no model is asked."""
        return isinstance(self.body, ModerationRequest) and self.request.entry.name == GUARDS


@dataclass(frozen=True)
class TextGeneration:
    """A request for text: its protocol and body, and what its chunks carry. `asked`: see Request."""

    operation: Generation
    asked: BaseModel
    body: ChatRequest | CompletionRequest
    answer_id: str
    created: int  # seconds since the epoch

    @classmethod
    def of(cls, admission: Admission) -> TextGeneration | None:
        """None where the answer is no text."""
        request, body = admission.request, admission.body
        if isinstance(request.operation, Generation) and isinstance(body, ChatRequest | CompletionRequest):
            created = int(request.incoming.received_at)
            return cls(request.operation, request.asked, body, request.answer_id, created)
        return None


@dataclass
class Response:
    """What goes back, and what is known of it so far. Times are seconds on `clock`, which only goes forward.

    `variant` is the one asked for, then the one that answered. `from_model`: neither refused nor kept.
    `model_call` is the span of the last call to a model.
    """

    clock: Callable[[], float] = time.perf_counter
    started: float = field(init=False)
    trace: Trace = field(default_factory=lambda: Trace(None))
    model_call: Span | None = None

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    variant: str | None = None
    model_version: str = ""
    from_model: bool = True
    is_cached: bool = False
    is_offloaded: bool = False  # it is a job now
    guards: GuardReport = field(default_factory=GuardReport)

    error: ApiError | None = None
    ended: bool = False
    finish_reason: str | None = None
    stop_reason: str | None = None  # the stop string at which the answer ended, where the engine tells it
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    pieces: int = 0  # chunks with text: one token each, or close to it
    first_token_at: float | None = None
    last_token_at: float | None = None
    ended_at: float | None = None

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def time_to_first_token_ms(self) -> float | None:
        """From arrival to the first text of the answer."""
        return None if self.first_token_at is None else (self.first_token_at - self.started) * 1000

    @property
    def time_per_output_token_ms(self) -> float | None:
        """Mean time between tokens after the first one; None below two tokens."""
        if self.first_token_at is None or self.last_token_at is None or (self.completion_tokens or 0) < 2:
            return None
        return (self.last_token_at - self.first_token_at) * 1000 / ((self.completion_tokens or 0) - 1)

    @property
    def duration_ms(self) -> float:
        """From arrival to the end of the reply, or until now."""
        return ((self.clock() if self.ended_at is None else self.ended_at) - self.started) * 1000

    @property
    def error_type(self) -> str | None:
        """The type of the error object sent, or `client_gone`; None for a request that ended well."""
        if self.error is not None:
            return self.error.type
        return "client_gone" if self.status == STATUS_CLIENT_GONE else None

    def fail(self, error: ApiError) -> None:
        """Note how the request ended when it did not end well."""
        self.error, self.status = error, error.status
