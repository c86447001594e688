"""HTTP/1.1 for one ASGI application: one object per connection, one task per request.

Hypercorn, which the emulator comes with, took a third of the emulator's processor time: several tasks for
each connection and request, and h11 (bench/results/emulator_http.md). What clients of a cloud on one machine
need is here; HTTP/2, WebSockets and TLS are not. Knows nothing of the emulator.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket

from local.cloud.http_exchange import (
    MAX_BUFFERED_BYTES,
    Application,
    BadRequestError,
    Exchange,
    parse_head,
)

MAX_HEAD_BYTES = 64 * 1024

log = logging.getLogger(__name__)


class Connection(asyncio.Protocol):
    """One client's requests, one after the other. `connections` holds it while it is open."""

    def __init__(self, application: Application, connections: set[Connection], idle_seconds: float) -> None:
        self._application = application
        self._connections = connections
        self._idle_seconds = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self.transport: asyncio.Transport
        self._received = bytearray()
        self._exchange: Exchange | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._closing = False

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The request under way."""
        return self._exchange.task if self._exchange else None

    # ---- what asyncio calls ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # asyncio does it only where it can see that the socket is TCP's: not for one it was given.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = transport.get_extra_info("peername")
        self._server = transport.get_extra_info("sockname")
        self._connections.add(self)
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._exchange is not None and not self._exchange.is_whole:
            self._wait()  # the time starts anew with each piece of a body
        self._proceed()
        if len(self._received) > MAX_BUFFERED_BYTES:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """A client that will send no more has gone: none of ours waits for the answer then."""
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self._connections.discard(self)
        self._stop_waiting()
        self._writable.set()
        if self._exchange is not None:
            self._exchange.disconnected()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # ---- what a request calls ----

    def finish_soon(self) -> None:
        """Take no further request: close when the one under way is answered, now where none is."""
        self._closing = True
        if self._exchange is None:
            self.transport.close()

    def proceed(self) -> None:
        """The application has taken some of the body: read on."""
        self.transport.resume_reading()
        self._proceed()

    def take(self, most: int) -> bytes:
        """Up to so many of the bytes received."""
        taken = bytes(self._received[:most])
        del self._received[: len(taken)]
        return taken

    def line(self) -> bytes | None:
        """The next line without its end, None while it has not come. Raises BadRequestError."""
        end = self._received.find(b"\r\n")
        if end < 0:
            if len(self._received) > MAX_HEAD_BYTES:
                raise BadRequestError("a line is too long")
            return None
        return self.take(end + 2)[:-2]

    async def write(self, data: bytes) -> None:
        """Send; waits while the client is slow. What is sent to a client that has gone is dropped."""
        if not self.transport.is_closing():
            self.transport.write(data)
            if not self._writable.is_set():
                await self._writable.wait()

    def write_now(self, data: bytes) -> None:
        """Send a few bytes without waiting."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def ended(self, *, keep: bool) -> None:
        """The request under way has been answered, whole where `keep` is true."""
        self._exchange = None
        if not keep or self._closing:
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.resume_reading()
            self._wait()
            if self._received:
                self._proceed()

    # ---- requests ----

    def _wait(self) -> None:
        """From now on the client has so many seconds."""
        self._stop_waiting()
        self._idle = self._loop.call_later(self._idle_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _proceed(self) -> None:
        try:
            if self._exchange is None:
                self._begin()
            if self._exchange is not None:
                self._exchange.read_body()
                if self._exchange.is_whole:
                    self._stop_waiting()
        except BadRequestError as error:
            self._refuse(error)

    def _begin(self) -> None:
        while self._received.startswith(b"\r\n"):  # some clients end a body with one
            del self._received[:2]
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > MAX_HEAD_BYTES:
                raise BadRequestError("the head is too long")
            return
        scope = parse_head(self.take(end + 4)[:-4])
        scope["client"], scope["server"] = self._client, self._server
        self._exchange = Exchange(self, scope)
        # No request sees what another one has left: whose it is stands in the context.
        run = self._exchange.run(self._application)
        self._exchange.task = self._loop.create_task(run, context=self._context.copy())

    def _refuse(self, error: BadRequestError) -> None:
        log.info("a request was refused: %s", error)
        if self._exchange is None or not self._exchange.has_begun:
            self.write_now(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        if self._exchange is not None:
            self._exchange.disconnected()
        self.transport.close()
