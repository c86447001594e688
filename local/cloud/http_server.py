"""The HTTP server in front of the emulator."""

from __future__ import annotations

import asyncio
import signal
import socket

from hypercorn.asyncio import run as hypercorn_run
from hypercorn.asyncio import serve
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config

from local.cloud.body_timeout import Application, with_body_timeout

KEEP_ALIVE_SECONDS = 55
"""How long a connection stays without a request; half a request's head is none."""
_GRACE_SECONDS = 10


class Connection(TCPServer):
    """A connection that ends when the client closes it. Hypercorn's own keeps its tasks until the keep-alive
    time is over, which at a few requests a second is thousands of them."""

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()


async def serve_until_stopped(application: Application, listener: socket.socket) -> None:
    """Serve on a listening socket until SIGTERM or SIGINT."""
    vars(hypercorn_run)["TCPServer"] = Connection
    server = Config()
    server.bind = [f"fd://{listener.fileno()}"]
    server.keep_alive_timeout = KEEP_ALIVE_SECONDS
    server.graceful_timeout = _GRACE_SECONDS
    server.shutdown_timeout = 60
    server.loglevel = "WARNING"
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(with_body_timeout(application), server, shutdown_trigger=stop.wait)
