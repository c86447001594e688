"""What the spans of a request say, and the task that sends them once the reply has gone.

Names follow OpenTelemetry's semantic conventions for HTTP and for generative AI where those have one. Nothing
that a caller or the model has said is in a span.
Source: OpenTelemetry, "Semantic conventions for generative AI systems" (client spans), "HTTP spans".
"""

from __future__ import annotations

from typing import Protocol

from contracts import metrics
from contracts.trace_context import TRACEPARENT, TRACESTATE, read_headers, read_xray
from lambdas.pipeline.request import IncomingRequest, Request, Response
from lambdas.runtime.metrics import MetricLine
from lambdas.runtime.tracing import Sampling, Span, Trace

_OPERATION_NAMES = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
PASSED_ON = Sampling(ratio=0, follows_xray=True)
"""Where no spans are sent: the decision that came is passed on as it is."""


class Exporter(Protocol):
    """Where spans go."""

    def export(self, trace: Trace) -> int:
        """Send them. Returns how many spans are lost."""


def begin_trace(incoming: IncomingRequest, sampling: Sampling) -> Trace:
    """The request's place in its caller's trace, else in X-Ray's, else in one of its own."""
    headers = incoming.headers
    callers = read_headers(headers.get(TRACEPARENT), headers.get(TRACESTATE))
    return Trace(sampling.decide(callers, read_xray(incoming.trace_id)))


def operation_name(route: str) -> str:
    """`gen_ai.operation.name` of what a container is asked for."""
    return _OPERATION_NAMES.get(route, route.rpartition("/")[2])


def describe_request(span: Span, route: str, request_id: str, response: Response) -> None:
    """The request's own span, an HTTP server's."""
    is_route = response.error is None or response.error.code != "unknown_route"
    span.name = f"POST {route}" if is_route else "POST"  # a name is one of few: never what a caller wrote
    span.note(
        http__request__method="POST",
        http__route=route if is_route else None,
        http__response__status_code=response.status,
        evergreen__request_id=request_id,
        evergreen__cached=response.is_cached or None,
        evergreen__handed_over=response.is_offloaded or None,
        evergreen__guard__findings=[str(finding) for finding in response.guards.findings] or None,
    )
    if response.status >= 500 and response.error_type:
        span.error_type = response.error_type


def describe_answer(span: Span, request: Request, response: Response) -> None:
    """The call that gave the answer, once that is known to its end."""
    first = response.first_token_at
    span.note(
        gen_ai__response__id=request.answer_id,
        gen_ai__response__finish_reasons=[response.finish_reason] if response.finish_reason else None,
        gen_ai__usage__input_tokens=response.prompt_tokens,
        gen_ai__usage__output_tokens=response.completion_tokens,
        gen_ai__response__time_to_first_chunk=None if first is None else max(0.0, first - span.started),
        evergreen__variant=response.variant,
        evergreen__model_version=response.model_version or None,
    )
    if response.error is not None and span.error_type is None:
        span.error_type = response.error.code or response.error.type


class ExportSpans:
    """Sends a request's spans; what is lost is counted."""

    def __init__(self, exporter: Exporter, endpoint_name: str) -> None:
        self._exporter = exporter
        self._endpoint_name = endpoint_name

    def __call__(self, route: str, request_id: str, request: Request | None, response: Response) -> None:
        """The last of the tasks after a response."""
        trace = response.trace
        describe_request(trace.root, route, request_id, response)
        if request is not None and response.model_call is not None:
            describe_answer(response.model_call, request, response)
        lost = self._exporter.export(trace)
        if lost:
            line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name})
            line.add({metrics.SPANS_LOST: (lost, "Count")}, [[metrics.DIM_ENDPOINT]])
            line.emit(request_id=request_id)
