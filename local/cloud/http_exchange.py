"""One HTTP/1.1 request to an ASGI application, and its reply.

Sources: RFC 9112, "HTTP/1.1"; ASGI specification, "HTTP & WebSocket".
"""

from __future__ import annotations

import asyncio
import http
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import unquote

Message = dict[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

MAX_BUFFERED_BYTES = 256 * 1024
"""Read ahead of the application; then the client waits."""
_BODILESS = {204, 304}
_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.([01])")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = logging.getLogger(__name__)


class BadRequestError(Exception):
    """What came is no HTTP/1.1 request."""


class Client(Protocol):
    """The connection, as one request sees it."""

    def take(self, most: int) -> bytes:
        """Up to so many of the bytes received."""

    def line(self) -> bytes | None:
        """The next line without its end, None while it has not come. Raises BadRequestError."""

    def proceed(self) -> None:
        """The application has taken some of the body: read on."""

    async def write(self, data: bytes) -> None:
        """Send; waits while the client is slow. What is sent to a client that has gone is dropped."""

    def write_now(self, data: bytes) -> None:
        """Send a few bytes without waiting."""

    def ended(self, *, keep: bool) -> None:
        """The request has been answered, whole where `keep` is true."""


class Exchange:
    """One request and its reply."""

    def __init__(self, client: Client, scope: Message) -> None:
        self.task: asyncio.Task[None] | None = None
        self._client, self._scope = client, scope
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._chunked, self._left = framing(headers)
        tokens = b",".join(value for name, value in headers if name == b"connection").lower()
        self._keep = b"close" not in tokens and (scope["http_version"] == "1.1" or b"keep-alive" in tokens)
        self._expects = any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
        self.is_whole = not self._chunked and not self._left
        self._body: list[bytes] = []
        self._buffered = 0
        self._in_chunk = self._in_trailers = False
        self._gone = False
        self._changed = asyncio.Event()
        self._start: Message | None = None
        self._is_told = False  # the application knows that the body has ended
        self._sends_chunks = self._done = False
        self.has_begun = False  # the head of the reply has been sent

    async def run(self, application: Application) -> None:
        """Let the application answer; one that fails before its reply begins is a 500, later a cut."""
        try:
            try:
                await application(self._scope, self.receive, self.send)
            except Exception:
                log.exception("%s %s failed", self._scope["method"], self._scope["path"])
            if not self.has_begun and not self._gone:
                self._keep = False
                await self.send({"type": "http.response.start", "status": 500, "headers": []})
                await self.send({"type": "http.response.body"})
        finally:
            # What is left of the body would be taken for the next request.
            self._client.ended(keep=self._done and self._keep and self.is_whole)

    def disconnected(self) -> None:
        """The client has gone."""
        self._gone = True
        self._changed.set()

    async def receive(self) -> Message:
        """ASGI's `receive`."""
        while True:
            if self._body:
                body = b"".join(self._body)
                self._body.clear()
                self._buffered = 0
                if not self.is_whole:
                    self._client.proceed()
                return {"type": "http.request", "body": body, "more_body": not self._complete()}
            if not self._is_told and self.is_whole:
                self._is_told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self._gone or self._done:
                return {"type": "http.disconnect"}
            if self._expects and not self.is_whole:
                self._expects = False
                self._client.write_now(_CONTINUE)
            self._changed.clear()
            await self._changed.wait()

    def _complete(self) -> bool:
        """Whether the application has the whole body with what it is given now."""
        self._is_told = self.is_whole and not self._body
        return self._is_told

    def read_body(self) -> None:
        """Take what has come of the body. Raises BadRequestError."""
        while not self.is_whole and self._buffered <= MAX_BUFFERED_BYTES:
            piece = self._next_piece()
            if piece is None:
                break
            if piece:
                self._expects = False
                self._body.append(piece)
                self._buffered += len(piece)
        if self._body or self.is_whole:
            self._changed.set()

    def _next_piece(self) -> bytes | None:
        """A piece of the body, empty where framing was read instead, None where more has to come."""
        if self._left:
            piece = self._client.take(self._left)
            self._left -= len(piece)
            self.is_whole = not self._chunked and not self._left
            return piece or None
        line = self._client.line()
        if line is None:
            return None
        if self._in_chunk:
            self._in_chunk = False
            if line:
                raise BadRequestError("a chunk is longer than it says")
        elif self._in_trailers:
            self.is_whole = not line
        elif found := _CHUNK.fullmatch(line):
            self._left = int(found[1], 16)
            self._in_chunk, self._in_trailers = bool(self._left), not self._left
        else:
            raise BadRequestError("a chunk has no length")
        return b""

    async def send(self, message: Message) -> None:
        """ASGI's `send`. The head goes out with the first of the body."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        if message["type"] != "http.response.body" or self._done or self._start is None:
            return
        body, more = bytes(message.get("body", b"")), message.get("more_body", False)
        data = b"" if self.has_begun else self._head(self._start, body, more)
        self.has_begun = True
        if self._scope["method"] == "HEAD" or self._start["status"] in _BODILESS:
            body = b""
        if not self._sends_chunks:
            data += body
        else:
            data += b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            data += b"" if more else b"0\r\n\r\n"
        self._done = not more
        if data:
            await self._client.write(data)
        if self._done:
            self._changed.set()

    def _head(self, start: Message, body: bytes, more: bool) -> bytes:
        status = start["status"]
        lines = [b"HTTP/1.1 %d %b" % (status, _REASONS.get(status, b""))]
        framed = status in _BODILESS
        for name, value in start.get("headers", ()):
            lowered = name.lower()
            framed = framed or lowered == b"content-length"
            if lowered == b"connection":
                self._keep = self._keep and b"close" not in value.lower()
            if lowered in (b"connection", b"transfer-encoding"):
                continue  # ours to say
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"the reply's header {name!r} cannot be sent")
            lines.append(b"%b: %b" % (name, value))
        if not framed and more and self._scope["http_version"] == "1.1":
            self._sends_chunks = self._scope["method"] != "HEAD"
            lines.append(b"transfer-encoding: chunked")
        elif not framed and more:
            self._keep = False
        elif not framed:
            lines.append(b"content-length: %d" % len(body))
        if not self._keep:
            lines.append(b"connection: close")
        elif self._scope["http_version"] == "1.0":
            lines.append(b"connection: keep-alive")
        return b"\r\n".join(lines) + b"\r\n\r\n"


def parse_head(head: bytes) -> Message:
    """ASGI's scope of a request's head. Raises BadRequestError."""
    first, *lines = head.split(b"\r\n")
    found = _REQUEST_LINE.fullmatch(first)
    if found is None:
        raise BadRequestError("there is no request line")
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadRequestError("a header cannot be read")
        headers.append((name.lower(), value.strip(b" \t")))
    path, _, query = found[2].partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"1.{found[3].decode()}",
        "method": found[1].decode("ascii"),
        "scheme": "http",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
    }


def framing(headers: list[tuple[bytes, bytes]]) -> tuple[bool, int]:
    """Whether the body comes in chunks, else its length. Raises BadRequestError where both are said."""
    encodings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    lengths = {value for name, value in headers if name == b"content-length"}
    if encodings and (encodings != [b"chunked"] or lengths):
        raise BadRequestError("the body's framing is ambiguous")
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths):
        raise BadRequestError("the body's length is no number")
    return bool(encodings), int(lengths.pop()) if lengths else 0
