"""The spans of one request: what happened when, below which place of which trace. Pure: nothing is sent here.

Hand-written because the OpenTelemetry SDK is too heavy for a cold start; `bench/gateway/tracing.py` measures
both. Spans carry names, counts, times and ids, never what a caller or the model has said.
Sources: OpenTelemetry specification, "Tracing SDK" (parent-based and ratio sampling), "Trace semantics".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from contracts import trace_context
from contracts.trace_context import TraceContext

Attribute = str | bool | int | float | list[str]
MOST_SPANS = 64
"""Of one request: calls that are repeated and made elsewhere have a handful."""
_RANDOM_BITS = 56  # the part of a trace id that is random, whoever made it


class Kind(IntEnum):
    """OTLP's numbers of what a span is towards other processes."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


@dataclass
class Span:
    """One piece of work. Times are seconds on the trace's clock; `error_type` is set where it failed."""

    name: str
    kind: Kind
    context: TraceContext
    parent_id: str
    started: float
    ended: float | None = None
    attributes: dict[str, Attribute] = field(default_factory=dict)
    error_type: str | None = None

    def note(self, **attributes: Attribute | None) -> None:
        """Add attributes, `__` in a name for a dot; what is None is left out."""
        for name, value in attributes.items():
            if value is not None:
                self.attributes[name.replace("__", ".")] = value


class Trace:
    """One request's part of its trace: its own span, which holds all others, and these.

    Without sampling there are contexts to pass on, and nothing is kept.
    """

    def __init__(
        self, parent: TraceContext | None, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self._epoch = time.time() - clock()
        known = parent or TraceContext(trace_context.new_trace_id(), "", False)
        self.spans: list[Span] = []
        self.root = Span("request", Kind.SERVER, known.child(), known.span_id, clock())
        self._keep(self.root)

    @property
    def is_sampled(self) -> bool:
        """Whether its spans are to be sent."""
        return self.root.context.is_sampled

    @property
    def ids(self) -> dict[str, str]:
        """What log lines carry of it."""
        return {"trace_id": self.root.context.trace_id, "span_id": self.root.context.span_id}

    def begin(self, name: str, kind: Kind = Kind.INTERNAL) -> Span:
        """A span below the request's own, from now on."""
        span = Span(name, kind, self.root.context.child(), self.root.context.span_id, self._clock())
        self._keep(span)
        return span

    def end(self, span: Span, error_type: str | None = None) -> None:
        """The work is over now."""
        span.ended, span.error_type = self._clock(), error_type

    def finish(self) -> list[Span]:
        """All spans; those still open end now."""
        now = self._clock()
        for span in self.spans:
            span.ended = now if span.ended is None else span.ended
        return self.spans

    def unix_nanoseconds(self, at: float) -> int:
        """A time of its clock as nanoseconds since the epoch."""
        return int((self._epoch + at) * 1e9)

    def _keep(self, span: Span) -> None:
        if self.is_sampled and len(self.spans) < MOST_SPANS:
            self.spans.append(span)


@dataclass(frozen=True)
class Sampling:
    """Which traces are sent. `follows_xray`: one that X-Ray itself has sampled is; else its word is nothing
    to a collector that has no other part of the trace."""

    ratio: float
    parent_based: bool = True
    follows_xray: bool = False

    def decide(self, callers: TraceContext | None, xrays: TraceContext | None) -> TraceContext:
        """The place below which a request happens, with the decision: the caller's, X-Ray's, or a new one."""
        parent = callers or xrays or TraceContext(trace_context.new_trace_id(), "", False)
        if callers is not None and self.parent_based:
            return callers
        followed = callers is None and self.follows_xray and parent.is_sampled
        sampled = followed or _is_within(parent.trace_id, self.ratio)
        return TraceContext(parent.trace_id, parent.span_id, sampled, parent.state)


def _is_within(trace_id: str, ratio: float) -> bool:
    """The same for one trace id everywhere, and more ids for a larger share."""
    drawn = int(trace_id, 16) & ((1 << _RANDOM_BITS) - 1)
    return drawn >= (1 - ratio) * (1 << _RANDOM_BITS)
