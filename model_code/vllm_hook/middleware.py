"""The hook itself: an ASGI middleware that stands before everything else in vLLM's server.

`/ping` and `/invocations` are its own; `/metrics` gets its series; all else passes through, and what is
refused there comes out in our error shape.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model_code.serving.logs import JsonFormatter
from model_code.vllm_hook.error_translation import translate_error, unknown_route
from model_code.vllm_hook.health import Health
from model_code.vllm_hook.metrics import HookMetrics
from model_code.vllm_hook.proxied_request import ProxiedRequest
from model_code.vllm_hook.settings import HookSettings, read_settings
from model_code.vllm_hook.upstream import UpstreamApp, send_error

_LOGGERS = "model_code"
_METHODS = {"/ping": ("GET",), "/invocations": ("POST",), "/metrics": ("GET",)}


class Hook:
    """Wraps the ASGI application of an OpenAI server; settings come from the environment unless given."""

    installed = False
    """Whether this process has one: without, the container must never say that it is well."""

    def __init__(self, app: ASGIApp, settings: HookSettings | None = None) -> None:
        _log_as_json()
        self._app = app
        self._settings = settings or read_settings()
        self._upstream = UpstreamApp(app)
        self._metrics = HookMetrics(self._settings.model_name)
        self.health = Health(self._settings, self._upstream)
        Hook.installed = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            return await self._lifespan(scope, receive, send)
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path, method = scope["path"], scope["method"]
        if method not in _METHODS.get(path, (method,)):
            refusal = unknown_route(method, path, 405)
            await send_error(send, 405, refusal.body, [(b"allow", _METHODS[path][0].encode())])
        elif path == "/ping":
            await self._serve_ping(send)
        elif path == "/invocations":
            request = ProxiedRequest(self._settings, self.health, self._upstream, self._metrics, scope)
            await request.run(receive, send)
        elif path == "/metrics":
            await self._serve_metrics(send)
        else:
            await self._pass_through(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._upstream.learn(scope)

        async def begin_once_started(message: Message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self.health.begin()

        try:
            await self._app(scope, receive, begin_once_started)
        finally:
            await self.health.end()

    async def _serve_ping(self, send: Send) -> None:
        reason = self.health.unready_reason() or await self.health.engine_fault()
        answer = {"status": "unavailable", "reason": reason} if reason else {"status": "ready"}
        await send_error(send, 503 if reason else 200, json.dumps(answer), [])

    async def _serve_metrics(self, send: Send) -> None:
        reply = await self._upstream.ask("GET", "/metrics")
        theirs = bytes(reply.body) if reply.status == 200 else b""
        admission = self.health.admission
        text = self._metrics.append_to(theirs, queued=admission.queued, running=admission.running)
        headers = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text, "more_body": False})

    async def _pass_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: list[int] = []
        body = bytearray()

        async def hold_refusals(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refused.append(message["status"])
            elif not refused:
                await send(message)
            else:
                body.extend(message.get("body", b""))

        await self._app(scope, receive, hold_refusals)
        if refused:
            status = refused[0]
            unknown = status in (404, 405) and b"does not exist" not in body
            error = (
                unknown_route(scope["method"], scope["path"], status)
                if unknown
                else translate_error(status, bytes(body))
            )
            await send_error(send, error.status, error.body, error.headers)


def _log_as_json() -> None:
    """Our loggers write JSON lines to stdout; the wrapped server's logging stays as it is."""
    ours = logging.getLogger(_LOGGERS)
    if not ours.handlers:
        handler = logging.StreamHandler(_plain_stdout())
        handler.setFormatter(JsonFormatter())
        ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False


def _plain_stdout() -> TextIO:
    """Standard output without what the wrapped server does to `sys.stdout`.

    vLLM 0.27 replaces its `write` by one that puts the process's name before each line: no JSON any more.
    """
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # io.UnsupportedOperation: captured in memory
        return sys.stdout
    return open(descriptor, "w", encoding="utf-8", buffering=1, closefd=False)
