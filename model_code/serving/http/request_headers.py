"""What a request says outside its body: SageMaker's headers and the custom attributes."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from starlette.datastructures import Headers

from contracts import container
from contracts.container import decode_attributes, decode_value
from contracts.trace_context import TraceContext, new_trace_id, read_headers

_LONGEST_ID = 128
_LONGEST_NUMBER = 12


@dataclass(frozen=True)
class RequestHeaders:
    """A request's id and place in its trace, the operation it asks for (empty: the container's own), its
    adapter, session and timeout in seconds; all but the first two may be unset.

    `trace` is the container's own place; `parent_id` the caller's, empty where the trace begins here.
    """

    request_id: str
    trace: TraceContext
    parent_id: str = ""
    route: str = ""
    adapter: str | None = None
    session: str | None = None
    timeout: float | None = None
    caller: str = ""

    @classmethod
    def read(cls, headers: Headers) -> RequestHeaders:
        """From a request's headers. Never refuses: a useless id is replaced, a useless timeout left out."""
        attributes = decode_attributes(headers.get(container.HEADER_CUSTOM_ATTRIBUTES))
        given = attributes.get(container.ATTRIBUTE_REQUEST_ID, "")
        usable = 0 < len(given) <= _LONGEST_ID and given.isascii() and given.isprintable()
        timeout = attributes.get(container.ATTRIBUTE_TIMEOUT_MS, "")[:_LONGEST_NUMBER]
        parent = _parent(attributes)
        return cls(
            request_id=given if usable else uuid.uuid4().hex,
            trace=parent.child(),
            parent_id=parent.span_id,
            route=attributes.get(container.ATTRIBUTE_ROUTE, ""),
            adapter=headers.get(container.HEADER_ADAPTER) or None,
            session=headers.get(container.HEADER_SESSION) or None,
            caller=attributes.get(container.ATTRIBUTE_CALLER, "")[:_LONGEST_ID],
            timeout=int(timeout) / 1000 if timeout.isdecimal() and timeout.isascii() else None,
        )

    @property
    def ids(self) -> dict[str, str]:
        """What every log line of the request carries."""
        ids = {
            "request_id": self.request_id,
            "trace_id": self.trace.trace_id,
            "span_id": self.trace.span_id,
        }
        if self.parent_id:
            ids["parent_span_id"] = self.parent_id
        if self.session:
            ids["session"] = self.session
        return ids


def _parent(attributes: dict[str, str]) -> TraceContext:
    """The place that the attributes tell of; a new trace where they tell of none."""
    state = decode_value(attributes.get(container.ATTRIBUTE_TRACESTATE, ""))
    known = read_headers(attributes.get(container.ATTRIBUTE_TRACEPARENT), state)
    return known or TraceContext(new_trace_id(), "", False)
