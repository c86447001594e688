"""One request on its way through the pipeline: what came, what the stages found out, what goes back.

Stages read and write it; it knows neither AWS nor HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from contracts.access import Principal
from contracts.chat import ChatRequest
from contracts.completions import CompletionRequest
from contracts.routing import Routing
from lambdas.pipeline.guards.base import Action, Finding, GuardTimes
from lambdas.pipeline.guards.vault import Vault
from lambdas.pipeline.operations import Generation, ModelRequest, Operation
from lambdas.runtime.errors import ApiError

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


@dataclass
class Exchange:
    """State of one request. Times are seconds on `clock`, which only ever goes forward."""

    incoming: IncomingRequest
    operation: Operation
    clock: Callable[[], float] = time.perf_counter
    started: float = field(init=False)

    request: ModelRequest | None = None
    caller: Principal | None = None
    authorizer: dict[str, str] = field(default_factory=dict)  # the caller as the authorizer would tell of it
    routing: Routing | None = None
    variant: str | None = None  # asked for by ChooseVariant, then the one that answered
    variant_is_the_callers: bool = False
    model_version: str = ""
    chunks: Iterable[Chunk] = ()
    body: Iterable[bytes] = ()
    release: Callable[[], None] = lambda: None  # lets go of the model's stream
    headers: dict[str, str] = field(default_factory=dict)

    is_answered: bool = False  # by a guard or the like: the model need not be asked
    vault: Vault = field(default_factory=Vault)
    findings: list[Finding] = field(default_factory=list)
    guard_times: GuardTimes = field(default_factory=GuardTimes)

    patience_ends_at: int | None = None  # milliseconds since the epoch; the caller's own deadline

    cache_digest: str | None = None  # under what the answer is kept, where the caller asked for that
    cache_seconds: int = 0
    cache_variant: str | None = None  # the variant that was to answer then
    cache_hit: bool = False  # the answer is a kept one
    cache_pieces: list[str] = field(default_factory=list)

    answer_texts: list[str] = field(default_factory=list)  # where a transcript is kept

    day: str = ""  # the day (UTC) it is booked on
    handed_over: bool = False  # it is a job now
    reserved_tokens: int | None = None
    reserved_nano_usd: int = 0
    pieces: int = 0  # chunks with text: one token each, or close to it

    status: int = 200
    ended: bool = False
    error: ApiError | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    ended_at: float | None = None

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def answer_id(self) -> str:
        """The answer's id, by which feedback finds the request again."""
        return self.operation.id_prefix + self.incoming.request_id

    @property
    def the_request(self) -> ModelRequest:
        """The request, for stages after Validate."""
        assert self.request is not None
        return self.request

    @property
    def the_generation(self) -> ChatRequest | CompletionRequest:
        """The request, for stages that only a generation passes."""
        assert isinstance(self.request, ChatRequest | CompletionRequest)
        return self.request

    @property
    def generation(self) -> Generation:
        """The operation, for stages that only a generation passes."""
        return cast(Generation, self.operation)

    @property
    def streamed(self) -> bool:
        """Whether the caller asked for a stream."""
        return isinstance(self.request, ChatRequest | CompletionRequest) and self.request.stream

    @property
    def the_caller(self) -> Principal:
        """The caller, for stages after Authorise."""
        assert self.caller is not None
        return self.caller

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
    def blocked_by(self) -> Finding | None:
        """The first finding that refuses the request or its answer."""
        return next((finding for finding in self.findings if finding.action is Action.BLOCK), None)

    @property
    def will_retry(self) -> bool:
        """Whether the same request is asked once more later, and counts then."""
        return self.handed_over or self.incoming.will_retry(self.status)

    def note(self, findings: list[Finding]) -> list[Finding]:
        """Keep findings for the record and the metrics; returns them."""
        self.findings += findings
        return findings

    def fail(self, error: ApiError) -> None:
        """Note how the request ended when it did not end well."""
        self.error, self.status = error, error.status

    def abandon(self) -> None:
        """Note that the caller left before the end."""
        self.status = STATUS_CLIENT_GONE
