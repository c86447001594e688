"""One HTTP reply over ASGI: a JSON body or a stream of events, ended well or by an error exactly once."""

from __future__ import annotations

from starlette.types import Send

from model_code.serving.errors import ServingError

Headers = list[tuple[bytes, bytes]]
_JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_EVENTS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class ResponseSender:
    """Sends one reply; `status` is 0 until its first byte is on its way."""

    def __init__(self, send: Send, headers: Headers) -> None:
        self._send = send
        self._headers = headers
        self._ended = False
        self.status = 0

    def add_header(self, name: str, value: str) -> None:
        """Add a header to a reply that has not begun."""
        self._headers = [*self._headers, (name.lower().encode(), value.encode())]

    async def body(self, content: bytes) -> None:
        """The whole reply at once."""
        await self._whole(200, content, [])

    async def text(self, content: str) -> None:
        """The whole reply at once, as plain text."""
        await self._whole(200, content.encode(), [], _TEXT)

    async def event(self, content: bytes) -> None:
        """One piece of an event stream; the first one opens the stream."""
        if self.status == 0:
            await self._start(200, _EVENTS)
        await self._send({"type": "http.response.body", "body": content, "more_body": True})

    async def end(self) -> None:
        """Close an event stream."""
        self._ended = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, error: ServingError) -> None:
        """Say what went wrong: with its status when nothing was sent yet, else as the stream's last event."""
        if self._ended:
            return
        if self.status == 0:
            await self._whole(error.status, error.body.encode(), error.headers)
        else:
            await self.event(b"data: " + error.body.encode() + b"\n\n")
            await self.end()

    async def _whole(
        self, status: int, content: bytes, extra: Headers, kind: tuple[bytes, bytes] = _JSON
    ) -> None:
        await self._start(status, [kind, (b"content-length", str(len(content)).encode()), *extra])
        self._ended = True
        await self._send({"type": "http.response.body", "body": content, "more_body": False})

    async def _start(self, status: int, headers: Headers) -> None:
        self.status = status
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, *self._headers]}
        )
