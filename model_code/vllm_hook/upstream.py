"""Requests to the wrapped application: callers', with what they lack, and our own for warm-up and probes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts import container
from model_code.serving.http.request_headers import RequestHeaders

CHAT, COMPLETIONS, EMBEDDINGS = container.ROUTE_CHAT, container.ROUTE_COMPLETIONS, container.ROUTE_EMBEDDINGS
RERANK, SCORE, CLASSIFY = container.ROUTE_RERANK, container.ROUTE_SCORE, container.ROUTE_CLASSIFY
ROUTES = (CHAT, COMPLETIONS, EMBEDDINGS, RERANK, SCORE, CLASSIFY)
_PATHS = {CLASSIFY: container.VLLM_CLASSIFY}  # where vLLM has another name for a route
_KEEPS_INVOCATIONS = {b"x-amzn-sagemaker-adapter-identifier", b"x-amzn-sagemaker-session-id"}
_REPLACED = {
    b"content-length",
    b"content-type",
    b"x-request-id",
    b"transfer-encoding",
    b"traceparent",
    b"tracestate",
}


@dataclass
class BufferedResponse:
    """A reply collected to its end."""

    status: int = 0
    body: bytearray = field(default_factory=bytearray)

    async def send(self, message: Message) -> None:
        """ASGI's `send`."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


class UpstreamApp:
    """The wrapped application, asked directly."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._base: dict[str, Any] = {}

    def learn(self, scope: Scope) -> None:
        """Keep what every scope of this server carries: frameworks look themselves up in it."""
        self._base = {key: scope[key] for key in ("app", "state") if key in scope}

    async def ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> BufferedResponse:
        """Send a request of our own and collect the reply."""
        body = b"" if content is None else json.dumps(content).encode()
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": _headers([], body),
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", container.DEFAULT_PORT),
            **self._base,
        }
        reply = BufferedResponse()
        await self.app(scope, body_receiver(body), reply.send)
        return reply


def upstream_scope(scope: Scope, route: str, body: bytes, sent: RequestHeaders) -> Scope:
    """A caller's scope as the wrapped application shall see it.

    The route's own path gives better refusals than the catch-all `/invocations`, which tries one request type
    after the other; what only `/invocations` does (adapters, sessions) goes there.
    """
    names = {name.lower() for name, _ in scope["headers"]}
    path = scope["path"] if names & _KEEPS_INVOCATIONS else _PATHS.get(route, route)
    extra = [
        (b"x-request-id", sent.request_id.encode()),
        (b"traceparent", sent.trace.traceparent.encode()),
        *([(b"tracestate", sent.trace.state.encode())] if sent.trace.state else []),
    ]
    headers = [*_headers(scope["headers"], body), *extra]
    return {**scope, "path": path, "raw_path": path.encode(), "headers": headers}


def _headers(headers: list[tuple[bytes, bytes]], body: bytes) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() not in _REPLACED]
    return [
        *kept,
        (b"content-type", b"application/json"),  # nothing else is served, and SageMaker's callers may not say
        (b"content-length", str(len(body)).encode()),
    ]


def body_receiver(body: bytes) -> Receive:
    """ASGI's `receive` of a client that has sent this body and stays."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()  # ends by cancellation: whoever watches the real client cancels
        raise AssertionError("unreachable")

    return receive


async def send_error(send: Send, status: int, body: str, headers: list[tuple[bytes, bytes]]) -> None:
    """A whole reply with an error body."""
    content = body.encode()
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": content, "more_body": False})
