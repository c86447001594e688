"""Sends finished spans by OTLP over HTTP, as JSON: to X-Ray, signed, or to a collector.

What could not be sent waits, bounded, for the next request's spans; a collector that does not answer is left
alone for a while, so that it costs one short timeout now and then. The response has gone by then.
Sources: OpenTelemetry, "OTLP specification" (JSON encoding, retryable statuses, partial success); Amazon
CloudWatch user guide, "OTLP endpoints".
"""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from contracts import tracing
from contracts.tracing import OtlpTracing, TracingTarget, XRayTracing
from lambdas.aws import client as aws
from lambdas.aws.secrets import CachedSecrets, SecretError, SecretsManager, SecretSource
from lambdas.runtime.tracing import Attribute, Span, Trace

MOST_WAITING = 256
"""Spans: some 200 kB, where X-Ray takes 10,000 and 5 MB in a request."""
PAUSE_SECONDS = 10.0
"""After a failure, before it is tried again."""
_CONNECT_SECONDS = 1.0
_READ_SECONDS = 2.0
_RETRYABLE = {429, 502, 503, 504}
_HEADERS = {"content-type": "application/json"}
_STATUS_ERROR = 2
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200


class Sender(Protocol):
    """A connection to whoever takes spans."""

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> aws.Reply:
        """The reply, whatever its status. Raises ConnectionFailedError or ReadTimeoutError."""


class SpanExporter:
    """Sends the spans of sampled traces. `resource` says what this process is."""

    def __init__(
        self,
        sender: Sender,
        path: str,
        resource: Mapping[str, Attribute],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender = sender
        self._path = path
        self._resource = {"attributes": _attributes(resource)}
        self._clock = clock
        self._waiting: list[dict[str, Any]] = []
        self._closed_until = float("-inf")

    def export(self, trace: Trace) -> int:
        """Send a trace's spans with those that wait. Returns how many spans are lost for good. Never raises
        for what is wrong with the receiver."""
        self._waiting += [_span(trace, span) for span in trace.finish()]
        lost = len(self._waiting[:-MOST_WAITING])
        self._waiting = self._waiting[-MOST_WAITING:]
        if not self._waiting or self._clock() < self._closed_until:
            return lost
        spans, self._waiting = self._waiting, []
        try:
            reply = self._sender.send("POST", self._path, _HEADERS, self._body(spans))
            answer = reply.json()
        except (aws.ConnectionFailedError, aws.ReadTimeoutError, aws.StreamInterruptedError):
            return lost + self._put_back(spans)
        if reply.status in _RETRYABLE:
            return lost + self._put_back(spans)
        if reply.status >= 300:
            self._closed_until = self._clock() + PAUSE_SECONDS
            return lost + len(spans)
        return lost + _rejected(answer)

    def _put_back(self, spans: list[dict[str, Any]]) -> int:
        self._closed_until = self._clock() + PAUSE_SECONDS
        self._waiting = [*spans, *self._waiting]
        over = max(0, len(self._waiting) - MOST_WAITING)
        del self._waiting[:over]
        return over

    def _body(self, spans: list[dict[str, Any]]) -> bytes:
        scope = {"scope": {"name": "evergreen"}, "spans": spans}
        request = {"resourceSpans": [{"resource": self._resource, "scopeSpans": [scope]}]}
        return json.dumps(request, separators=(",", ":")).encode()


class _WithSecret:
    """Adds a header that a secret holds; one that is refused is read anew, now and then."""

    def __init__(self, sender: Sender, target: OtlpTracing, secrets: CachedSecrets) -> None:
        self._sender = sender
        self._secret = target.secret or ""
        self._header = target.secret_header
        self._secrets = secrets

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> aws.Reply:
        """See Sender. A secret that cannot be read counts as a connection that failed."""
        try:
            secret = self._secrets.read(self._secret)
            reply = self._sender.send(method, path, {**headers, self._header: secret}, body)
            if reply.status not in (401, 403) or not (newer := self._secrets.changed(self._secret, secret)):
                return reply
        except SecretError as error:
            raise aws.ConnectionFailedError from error
        reply.close()
        return self._sender.send(method, path, {**headers, self._header: newer}, body)


def span_exporter(
    target: TracingTarget, resource: Mapping[str, Attribute], secrets: SecretSource | None = None
) -> SpanExporter:
    """The exporter that settings ask for. `secrets` is Secrets Manager unless given."""
    if isinstance(target, XRayTracing):
        sender: Sender = aws.Client("xray", "xray", "xray", _CONNECT_SECONDS, _READ_SECONDS)
        return SpanExporter(sender, tracing.PATH, resource)
    path = urllib.parse.urlsplit(target.url).path
    collector: Sender = aws.HttpClient(target.url, _CONNECT_SECONDS, _READ_SECONDS)
    if target.secret:
        collector = _WithSecret(collector, target, CachedSecrets(secrets or SecretsManager()))
    return SpanExporter(collector, path, resource)


def _span(trace: Trace, span: Span) -> dict[str, Any]:
    remote = span is trace.root and span.parent_id
    encoded: dict[str, Any] = {
        "traceId": span.context.trace_id,
        "spanId": span.context.span_id,
        "flags": int(span.context.is_sampled) | _HAS_IS_REMOTE | (_IS_REMOTE if remote else 0),
        "name": span.name,
        "kind": int(span.kind),
        "startTimeUnixNano": str(trace.unix_nanoseconds(span.started)),
        "endTimeUnixNano": str(trace.unix_nanoseconds(span.ended or span.started)),
        "attributes": _attributes(span.attributes),
    }
    if span.parent_id:
        encoded["parentSpanId"] = span.parent_id
    if span.context.state:
        encoded["traceState"] = span.context.state
    if span.error_type:
        encoded["attributes"] += _attributes({"error.type": span.error_type})
        encoded["status"] = {"code": _STATUS_ERROR}
    return encoded


def _attributes(attributes: Mapping[str, Attribute]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Attribute) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}  # 64 bits are text in protobuf's JSON
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    return {"arrayValue": {"values": [_value(each) for each in value]}}


def _rejected(answer: Mapping[str, Any]) -> int:
    partial = answer.get("partialSuccess")
    count = partial.get("rejectedSpans") if isinstance(partial, dict) else 0
    return int(count) if isinstance(count, int | str) and str(count).isdecimal() else 0
