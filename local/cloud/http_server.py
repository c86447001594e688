"""The HTTP server in front of the emulator: starts the application, serves it, stops it in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator

from local.cloud.http_connection import Connection
from local.cloud.http_exchange import Application, Message

KEEP_ALIVE_SECONDS = 75
_BACKLOG = 256
_GRACE_SECONDS = 10
_START_SECONDS = 60
_STOP_SECONDS = 60


async def serve_until_stopped(application: Application, listener: socket.socket) -> None:
    """Serve on a listening socket until SIGTERM or SIGINT. Raises RuntimeError where it cannot start."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with _started(application):
        connections: set[Connection] = set()
        listener.setblocking(False)
        server = await loop.create_server(
            lambda: Connection(application, connections, KEEP_ALIVE_SECONDS), sock=listener, backlog=_BACKLOG
        )
        await stop.wait()
        server.close()
        await _finish(connections)


async def _finish(connections: set[Connection]) -> None:
    """Requests under way may end; those that last longer than a moment are cut off."""
    for connection in list(connections):
        connection.finish_soon()
    tasks = [connection.task for connection in connections if connection.task is not None]
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)


@contextlib.asynccontextmanager
async def _started(application: Application) -> AsyncIterator[None]:
    """The application's life: it has started within the block, and has stopped behind it."""
    told: asyncio.Queue[Message] = asyncio.Queue()
    answers: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
    life = asyncio.ensure_future(application(scope, told.get, answers.put))

    async def tell(event: str, seconds: float) -> None:
        await told.put({"type": f"lifespan.{event}"})
        answer = asyncio.ensure_future(answers.get())
        await asyncio.wait({answer, life}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            if life.done() and (error := life.exception()):
                raise error
            raise RuntimeError(f"the application did not answer to its {event}")
        if answer.result()["type"] != f"lifespan.{event}.complete":
            raise RuntimeError(answer.result().get("message") or f"the application's {event} failed")

    try:
        await tell("startup", _START_SECONDS)
        yield
        await tell("shutdown", _STOP_SECONDS)
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
