"""The HTTP server in front of the emulator: uvicorn over httptools, with what a cloud on one machine needs.

Hypercorn, which the emulator comes with, took a third of the emulator's processor time: several tasks for
each connection and request, and h11 (bench/results/emulator_http.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from local.cloud.body_timeout import Application, with_body_timeout

KEEP_ALIVE_SECONDS = 55
"""How long a connection stays without a request; half a request's head is none."""
_BACKLOG = 256
_GRACE_SECONDS = 10


class Connection(HttpToolsProtocol):
    """A connection that is closed when a request's head does not come in time, its first one included."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # asyncio does it only where it can see that the socket is TCP's: not for one it was given.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(cast("asyncio.Transport", transport))
        self._expect_head()

    def on_message_begin(self) -> None:
        """See HttpToolsProtocol."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """See HttpToolsProtocol."""
        self._forget_head()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._forget_head()
        self._head = self.loop.call_later(KEEP_ALIVE_SECONDS, self.transport.close)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class _Server(uvicorn.Server):
    """uvicorn without its own handlers of signals, which would raise the signal again behind its end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See `serve_until_stopped`."""
        yield

    def stop(self) -> None:
        """Take no further request, let those under way end."""
        self.should_exit = True


async def serve_until_stopped(application: Application, listener: socket.socket) -> None:
    """Serve on a listening socket until SIGTERM or SIGINT. Raises RuntimeError where it cannot start."""
    listener.setblocking(False)
    config = uvicorn.Config(
        with_body_timeout(application),
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    try:
        await server.serve(sockets=[listener])
    except SystemExit:
        raise RuntimeError("the emulator did not start: its log says why") from None
