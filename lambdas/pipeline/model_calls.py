"""Calls to the model: repeated at most once, stopped while the endpoint is down, then made elsewhere.

Before the first bytes of an answer a call may be repeated, within a budget, or made to the next fallback
target; later never, since the caller may have seen part of the answer. A request that is wrong is wrong
everywhere, so only what another endpoint could do better leads on. But a fallback that knows no tools, say,
refuses what the endpoint itself would take: its refusal is not the caller's to hear.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from contracts import container
from contracts.access import Principal
from contracts.chat import ChatRequest, StreamOptions
from contracts.fallback import FALLBACK_VARIANT
from contracts.texts import TextsRequest
from lambdas.aws import model_errors
from lambdas.aws.model_errors import ModelCallError, VariantNotFoundError
from lambdas.pipeline.operations import ModelRequest, Unary
from lambdas.pipeline.request import Admission, Response, Route
from lambdas.pipeline.resilience import CircuitBreaker, RetryBudget
from lambdas.pipeline.spans import operation_name
from lambdas.runtime.errors import ApiError
from lambdas.runtime.logs import Logger
from lambdas.runtime.tracing import Kind, Span

_ELSEWHERE = {"throttled", model_errors.UPSTREAM_REFUSED}
_DEADLINE_MARGIN_MS = 2_000
"""Left to the front door to pass on the model's own timeout before Lambda ends the invocation."""

A = TypeVar("A")


class ModelStream(Protocol):
    """An open reply. `variant` is the one that answers; iteration raises ApiError when the stream breaks."""

    variant: str | None

    def __iter__(self) -> Iterator[bytes]:
        """The reply's bytes, cut anywhere."""

    def close(self) -> None:
        """Let go of the connection; the model stops generating."""


class ModelEndpoint(Protocol):
    """Where the model runs. `provider` is its name in OpenTelemetry's conventions, or like those."""

    provider: str

    def invoke(self, body: bytes, attributes: str, variant: str | None) -> ModelStream:
        """Open a reply. Raises ModelCallError, or VariantNotFoundError when `variant` is not there."""


class ModelCalls:
    """Calls to one endpoint."""

    def __init__(
        self,
        endpoint: ModelEndpoint,
        default_version: str,
        retries: RetryBudget,
        breaker: CircuitBreaker,
        remote_model: str | None = None,
    ) -> None:
        """`remote_model` is what the endpoint calls the model; None: as callers do."""
        self._endpoint = endpoint
        self._default_version = default_version
        self._remote_model = remote_model
        self._retries = retries
        self._breaker = breaker

    def open(self, admission: Admission, response: Response, read: Callable[[ModelStream], A]) -> A:
        """What `read` makes of an open reply; its failure counts as the call's. Raises ApiError.

        Fills `response.variant` and `.model_version`. The caller closes the reply, unless `read` fails.
        """
        response.variant = admission.route.variant
        response.model_version = self._version(admission, response)
        wait = self._breaker.seconds_until_next_try()
        if wait:
            raise model_errors.unavailable("The model is down.", math.ceil(wait))
        self._retries.request()
        try:
            try:
                answer = self._attempt(admission, response, read)
            except ModelCallError as failure:
                if not (failure.retryable and self._retries.take()):
                    raise
                answer = self._attempt(admission, response, read)
        except ModelCallError as failure:
            (self._breaker.failed if failure.is_outage else self._breaker.succeeded)()
            raise failure.api_error from failure
        self._breaker.succeeded()
        response.model_version = self._version(admission, response)
        return answer

    def _version(self, admission: Admission, response: Response) -> str:
        routes = admission.route.routing.variants if admission.route.routing else []
        versions = {route.name: route.model_version for route in routes}
        return versions.get(response.variant or "", self._default_version)

    def _attempt(self, admission: Admission, response: Response, read: Callable[[ModelStream], A]) -> A:
        """One call, under a span of its own that stays open where an answer has begun."""
        span = response.model_call = self._span(admission, response)
        try:
            return self._call(admission, response, read, span)
        except Exception as error:
            response.trace.end(span, _error_type(error))
            raise

    def _span(self, admission: Admission, response: Response) -> Span:
        operation, model = operation_name(admission.request.operation.container_route), admission.body.model
        span = response.trace.begin(f"{operation} {model}", Kind.CLIENT)
        span.note(
            gen_ai__operation__name=operation,
            gen_ai__provider__name=self._endpoint.provider,
            gen_ai__request__model=model,
            gen_ai__request__stream=admission.request.streamed or None,
        )
        return span

    def _call(
        self, admission: Admission, response: Response, read: Callable[[ModelStream], A], span: Span
    ) -> A:
        time_left = time_left_ms(admission)
        if admission.deadline_ms is not None and time_left is not None and time_left <= 0:
            raise model_errors.timed_out()
        body = _body(admission, self._remote_model)
        attributes = _attributes(admission, time_left, span)
        try:
            stream = self._endpoint.invoke(body, attributes, response.variant)
        except VariantNotFoundError:
            if admission.route.is_callers_choice:
                raise ApiError(
                    "invalid_request_error", "There is no such variant.", code="unknown_variant"
                ) from None
            response.variant = None
            stream = self._endpoint.invoke(body, attributes, None)
        response.variant = stream.variant or response.variant
        try:
            return read(stream)
        except BaseException:
            stream.close()
            raise


def _body(admission: Admission, model: str | None) -> bytes:
    """The caller's request; a generation becomes a stream with usage. Fields the caller left out stay out.

    `model` replaces the name by which the caller asked.
    """
    request, operation = admission.body, admission.request.operation
    changes: dict[str, Any] = {} if model is None else {"model": model}
    if isinstance(operation, Unary):
        return operation.body(request.model_copy(update=changes) if changes else request)
    assert not isinstance(request, TextsRequest)
    changes |= {"stream": True, "stream_options": StreamOptions(include_usage=True)}
    return request.model_copy(update=changes).model_dump_json(exclude_unset=True).encode()


def _error_type(error: Exception) -> str:
    """A word of few: never a message."""
    cause = error.api_error if isinstance(error, ModelCallError) else error
    return (cause.code or cause.type) if isinstance(cause, ApiError) else type(error).__name__


def _attributes(admission: Admission, time_left_ms: int | None, span: Span) -> str:
    incoming, operation = admission.request.incoming, admission.request.operation
    attributes = {
        container.ATTRIBUTE_REQUEST_ID: incoming.request_id,
        container.ATTRIBUTE_TRACEPARENT: span.context.traceparent,
    }
    if operation.container_route != container.ROUTE_CHAT:
        attributes[container.ATTRIBUTE_ROUTE] = operation.container_route
    if isinstance(admission.body, ChatRequest) and (admission.body.tools or admission.body.response_format):
        attributes[container.ATTRIBUTE_CALLER] = _caller(admission.request.principal)
    if time_left_ms is not None:
        attributes[container.ATTRIBUTE_TIMEOUT_MS] = str(max(1, time_left_ms))
    if span.context.state:
        attributes[container.ATTRIBUTE_TRACESTATE] = container.encode_value(span.context.state)
        if not container.fits(attributes):  # the standard lets whoever has no room drop it
            del attributes[container.ATTRIBUTE_TRACESTATE]
    return container.encode_attributes(attributes)


def _caller(principal: Principal) -> str:
    """A digest of a key, or of a bearer where many share what stands for a key: the container limits each."""
    parts = (principal.tenant, principal.key_id or principal.key_name, principal.subject)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def time_left_ms(admission: Admission) -> int | None:
    """A duration: milliseconds until Lambda or the caller stops waiting; None where neither has said when."""
    ends = []
    if admission.request.incoming.deadline_ms is not None:
        ends.append(admission.request.incoming.deadline_ms - _DEADLINE_MARGIN_MS)
    if admission.deadline_ms is not None:
        ends.append(admission.deadline_ms)
    return min(ends) - int(time.time() * 1000) if ends else None


class Calls(Protocol):
    """Calls to one endpoint, or to a chain of them."""

    def open(self, admission: Admission, response: Response, read: Callable[[ModelStream], A]) -> A:
        """What `read` makes of an open reply. Raises ApiError."""


@dataclass(frozen=True)
class FallbackCalls:
    """One more target; `name` is for the log."""

    name: str
    calls: Calls


class FallbackChain:
    """Calls to the endpoint itself, then to the targets."""

    def __init__(self, first: Calls, targets: Sequence[FallbackCalls], logger: Logger) -> None:
        self._first = first
        self._targets = targets
        self._logger = logger

    def open(self, admission: Admission, response: Response, read: Callable[[ModelStream], A]) -> A:
        """See Calls.open. The error raised in the end is the first endpoint's: it is the one asked for."""
        try:
            return self._first.open(admission, response, read)
        except ApiError as error:
            if admission.route.is_callers_choice or not _worth_falling_back(error):
                raise
            first_error = error
        as_asked = response.variant, response.model_version
        elsewhere = replace(admission, route=Route())
        for target in self._targets:
            try:
                answer = target.calls.open(elsewhere, response, read)
            except ApiError as error:
                is_request_at_fault = not error.is_server_error and not _worth_falling_back(error)
                if is_request_at_fault and not _needs_more_than_text(admission.body):
                    raise
                # What is wrong with a fallback is nothing that the caller could change.
                self._logger.warning("fallback_failed", to=target.name, error_code=error.code)
                continue
            response.variant = FALLBACK_VARIANT
            self._logger.warning("fallback_used", to=target.name, after=first_error.code)
            return answer
        response.variant, response.model_version = as_asked
        raise first_error


def _needs_more_than_text(body: ModelRequest) -> bool:
    """Whether the request asks for what not every model can do."""
    return isinstance(body, ChatRequest) and bool(
        body.tools or body.response_format or body.logprobs or body.answers > 1
    )


def _worth_falling_back(error: ApiError) -> bool:
    """Full, starting, down, silent, throttled or closed to us: another endpoint may be none of these."""
    return error.type in {"overloaded_error", "timeout_error"} or error.code in _ELSEWHERE
