"""Where an invocation's answer goes: into memory, or piece by piece to a reader on another event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from local.cloud.lambda_service.results import StreamError

HTTP_RESPONSE = "application/vnd.awslambda.http-integration-response"
_SEPARATOR = b"\0" * 8
_PRELUDE_LIMIT = 128 * 1024
_PIECES_AHEAD = 64


class BufferedResponse:
    """Keeps the whole answer in memory."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.finished = asyncio.Event()
        self.error_type: str | None = None

    async def head(self, _content_type: str, _streaming: bool) -> None:
        """The answer begins."""

    async def piece(self, data: bytes) -> None:
        """A part of the answer."""
        self._pieces.append(data)

    async def done(self) -> None:
        """The answer is complete."""
        self.finished.set()

    async def failed(self, error_type: str, body: str) -> None:
        """The function failed: its error object replaces whatever it had written."""
        self.error_type, self._pieces = error_type, [body.encode()]
        self.finished.set()

    def payload(self) -> bytes:
        """Everything written."""
        return b"".join(self._pieces)


class StreamRelay:
    """Carries an answer to a reader on the event loop `reader_loop`; the writer waits for a slow reader."""

    def __init__(self, reader_loop: asyncio.AbstractEventLoop) -> None:
        self._loop = reader_loop
        self._queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self._put_count, self._taken_count = 0, 0  # each changed on one of the two loops only
        self._taken = asyncio.Event()
        self._abandoned = False
        self._returned = b""

    # ---- writing, on the pool's loop ----

    async def head(self, content_type: str, _streaming: bool) -> None:
        """The answer begins."""
        await self._put("head", content_type)

    async def piece(self, data: bytes) -> None:
        """A part of the answer."""
        await self._put("piece", data)

    async def done(self) -> None:
        """The answer is complete."""
        await self._put("done", None)

    async def failed(self, error_type: str, body: str) -> None:
        """The function failed."""
        await self._put("failed", StreamError(error_type, body))

    async def _put(self, kind: str, value: Any) -> None:
        """Hand on without waiting for the other loop, unless its reader is far behind."""
        if self._abandoned:
            return
        if self._put_count - self._taken_count >= _PIECES_AHEAD:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._wait_for_capacity(), self._loop))
        self._put_count += 1
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (kind, value))

    async def _wait_for_capacity(self) -> None:
        while self._put_count - self._taken_count >= _PIECES_AHEAD and not self._abandoned:
            self._taken.clear()
            await self._taken.wait()

    # ---- reading: an asynchronous iterator of pieces ----

    async def started_content_type(self) -> str:
        """Wait for the answer's beginning or its failure; the content type. Raises StreamError."""
        kind, value = await self._get()
        if kind == "failed":
            raise value
        return str(value)

    async def from_beginning(self) -> AsyncIterator[bytes]:
        """`started_content_type` and the pieces in one."""
        try:
            await self.started_content_type()
            async for piece in self:
                yield piece
        finally:
            await self.aclose()

    def push_back(self, piece: bytes) -> None:
        """Give back what was read too far."""
        self._returned = piece

    def __aiter__(self) -> StreamRelay:
        return self

    async def __anext__(self) -> bytes:
        if self._returned:
            piece, self._returned = self._returned, b""
            return piece
        if self._abandoned:
            raise StopAsyncIteration
        kind, value = await self._get()
        if kind == "piece":
            return bytes(value)
        self._abandoned = True
        if kind == "failed":
            raise value
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """The reader leaves: the function runs on without a reader and is never held up."""
        self._abandoned = True
        self._taken.set()
        while not self._queue.empty():
            self._queue.get_nowait()

    async def _get(self) -> tuple[str, Any]:
        found = await self._queue.get()
        self._taken_count += 1
        self._taken.set()
        return found


async def take_prelude(content_type: str, relay: StreamRelay) -> dict[str, Any] | None:
    """Take the JSON prelude off an HTTP answer; None for other answers. Raises StreamError when it is not
    well formed."""
    if content_type != HTTP_RESPONSE:
        return None
    head = b""
    async for piece in relay:
        head += piece
        if _SEPARATOR in head:
            break
        if len(head) > _PRELUDE_LIMIT:
            break
    text, separator, rest = head.partition(_SEPARATOR)
    try:
        prelude = json.loads(text)
    except ValueError:
        prelude = None
    if not separator or not isinstance(prelude, dict):
        await relay.aclose()
        message = "the answer does not begin with a JSON object followed by eight NUL bytes"
        raise StreamError("Runtime.MalformedResponse", json.dumps({"errorMessage": message}))
    relay.push_back(rest)
    return prelude
