"""vLLM's reply on its way to the caller."""

from __future__ import annotations

import json
import time
from typing import Any

from starlette.types import Message, Send

from model_code.serving.errors import ServingError
from model_code.vllm_hook.answer_tool import AnswerTool
from model_code.vllm_hook.error_translation import ERROR_EVENT, event_error
from model_code.vllm_hook.health import Health
from model_code.vllm_hook.upstream import send_error

_USAGE = b'"usage":{'
_OUR_HEADERS = frozenset({b"x-request-id"})


class ResponseRelay:
    """The wrapped server's reply on its way: refusals are held back, the rest goes through as it comes.

    Nothing is sent before the first piece of the body, so that a failure until then has its own status.
    """

    def __init__(self, send: Send, request_id: str, health: Health) -> None:
        self._send, self._health = send, health
        self._headers = [(b"x-request-id", request_id.encode())]
        self._start: Message | None = None
        self._refused: bytearray | None = None
        self.ended = False
        self.status = 0
        self.first: float | None = None
        self.usage: dict[str, Any] = {}
        self.answer: AnswerTool | None = None
        """Where the caller's answer is asked for as a call."""
        self.error: ServingError | None = None
        """What the wrapped server said in place of the rest of its stream."""

    async def send(self, message: Message) -> None:
        """ASGI's `send` for the wrapped application."""
        if message["type"] == "http.response.start":
            self._start, self._refused = message, bytearray() if message["status"] >= 400 else None
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            if self._refused is not None:
                self._refused += body
                return
            if body.startswith(ERROR_EVENT):
                # Not raised here: that would pass through all of vLLM's handlers.
                self.error = event_error(body)
            if self.error is not None:
                return
            await self._forward(body, more=message.get("more_body", False))

    async def _forward(self, body: bytes, *, more: bool) -> None:
        if body:
            self._health.progress()
            self.first = self.first or time.perf_counter()
            if _USAGE in body:
                self.usage = _usage(body)
        if self.answer is not None:
            body = self.answer.feed(body, more=more)
        if more and not body:
            return
        if self.status == 0 and self._start is not None:
            self.status = self._start["status"]
            dropped = _OUR_HEADERS if self.answer is None else _OUR_HEADERS | {b"content-length"}
            headers = [pair for pair in self._start["headers"] if pair[0].lower() not in dropped]
            await self._send({**self._start, "headers": [*headers, *self._headers]})
        self.ended = not more
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def refusal(self) -> tuple[int, bytes] | None:
        """Status and body of a reply that was held back, once; None when the reply went through."""
        if self._start is None or self._refused is None:
            return None
        held = self._start["status"], bytes(self._refused)
        self._start = self._refused = None
        return held

    async def fail(self, error: ServingError) -> None:
        """Say what went wrong: with its status when nothing was sent yet, else as the stream's last event."""
        if self.ended:
            return
        self.ended = True
        if self.status == 0:
            self.status = error.status
            await send_error(self._send, error.status, error.body, [*error.headers, *self._headers])
            return
        content = b"data: " + error.body.encode() + b"\n\n"
        await self._send({"type": "http.response.body", "body": content, "more_body": False})


def _usage(body: bytes) -> dict[str, Any]:
    """The token counts in a whole answer or in a stream's last events; empty when they cannot be read."""
    start = body.rindex(_USAGE) + len(_USAGE) - 1
    try:
        usage, _ = json.JSONDecoder().raw_decode(body[start:].decode())
    except ValueError:
        return {}
    return usage if isinstance(usage, dict) else {}
