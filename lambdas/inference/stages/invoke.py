"""Calls the model and turns its bytes into chunks. Always streams, whatever the caller asked for.

Before the first event a call may be repeated, once and within a budget; afterwards never, since the caller
may have seen part of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Protocol

from contracts.chat import StreamOptions
from contracts.container import encode_attributes
from lambdas.inference import model_errors, sse
from lambdas.inference.exchange import Chunk, Exchange
from lambdas.inference.model_errors import ModelFailure, VariantVanished
from lambdas.inference.retry_budget import RetryBudget
from lambdas.inference.tracing import traceparent


class ModelStream(Protocol):
    """An open reply. `variant` is the one that answers; iteration raises ApiError when the stream breaks."""

    variant: str | None

    def __iter__(self) -> Iterator[bytes]:
        """The reply's bytes, cut anywhere."""

    def close(self) -> None:
        """Let go of the connection; the model stops generating."""


class ModelEndpoint(Protocol):
    """Where the model runs."""

    def invoke(self, body: bytes, attributes: str, variant: str | None) -> ModelStream:
        """Open a reply. Raises ModelFailure, or VariantVanished when `variant` is not there."""


class Invoke:
    """Fills `exchange.chunks`, `exchange.variant` and `exchange.model_version`."""

    def __init__(self, endpoint: ModelEndpoint, default_version: str, retries: RetryBudget) -> None:
        self._endpoint = endpoint
        self._default_version = default_version
        self._retries = retries

    def apply(self, exchange: Exchange) -> None:
        """Returns once the first event is there, so that a refusal keeps its status. Raises ApiError."""
        exchange.model_version = self._version(exchange)
        answer = self._open(exchange)
        exchange.release = answer.release
        exchange.variant = answer.stream.variant or exchange.variant
        exchange.model_version = self._version(exchange)
        exchange.chunks = answer.chunks()

    def _version(self, exchange: Exchange) -> str:
        routes = exchange.routing.variants if exchange.routing else []
        versions = {route.name: route.model_version for route in routes}
        return versions.get(exchange.variant or "", self._default_version)

    def _open(self, exchange: Exchange) -> _Answer:
        self._retries.request()
        try:
            return self._attempt(exchange)
        except ModelFailure as failure:
            if not (failure.retryable and self._retries.take()):
                raise failure.api_error from failure
        try:
            return self._attempt(exchange)
        except ModelFailure as failure:
            raise failure.api_error from failure

    def _attempt(self, exchange: Exchange) -> _Answer:
        body, attributes = _body(exchange), _attributes(exchange)
        try:
            return _Answer(self._endpoint.invoke(body, attributes, exchange.variant))
        except VariantVanished:
            exchange.variant = None
            return _Answer(self._endpoint.invoke(body, attributes, None))


class _Answer:
    """An open stream whose first chunk has come."""

    def __init__(self, stream: ModelStream) -> None:
        self.stream = stream
        self._payloads = sse.payloads(stream)
        self._done = False
        try:
            self._first = self._next()
        except BaseException:
            stream.close()
            raise

    def chunks(self) -> Iterator[Chunk]:
        """The chunks up to `[DONE]`. Raises ApiError when the stream breaks or is not one."""
        chunk = self._first
        while chunk is not None:
            yield chunk
            chunk = self._next()

    def release(self) -> None:
        """Close the stream; one that has ended is read out first, which keeps its connection usable."""
        try:
            if self._done:
                next(self._payloads, None)
        finally:
            self.stream.close()

    def _next(self) -> Chunk | None:
        try:
            payload = next(self._payloads, None)
        except sse.EventTooLarge:
            raise model_errors.garbage() from None
        if payload is None:
            raise model_errors.interrupted()
        if payload == sse.DONE:
            self._done = True
            return None
        return _parse(payload)


def _parse(payload: bytes) -> Chunk:
    try:
        chunk = json.loads(payload)
    except (ValueError, RecursionError):
        raise model_errors.garbage() from None
    if isinstance(chunk, dict) and "error" in chunk:
        raise model_errors.from_container(500, payload.decode())
    if not isinstance(chunk, dict) or not isinstance(chunk.get("choices"), list):
        raise model_errors.garbage()
    return chunk


def _body(exchange: Exchange) -> bytes:
    """The caller's request, made a stream with usage. Fields the caller left out stay out."""
    asked = exchange.the_request
    request = asked.model_copy(update={"stream": True, "stream_options": StreamOptions(include_usage=True)})
    return request.model_dump_json(exclude_unset=True).encode()


def _attributes(exchange: Exchange) -> str:
    attributes = {"request_id": exchange.arrival.request_id}
    parent = traceparent(exchange.arrival.trace_id)
    return encode_attributes({**attributes, "traceparent": parent} if parent else attributes)
