"""The account and region that the laptop cloud stands for, and what happens when it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ministack import app as _app
from ministack.core import responses as _responses

log = logging.getLogger("evergreen.cloud")
account_region: dict[str, str] = {"account": "", "region": ""}

_SHUTDOWN_SECONDS = 20.0
_startup: list[Callable[[], Awaitable[None]]] = []
_shutdown: list[Callable[[], Awaitable[None]]] = []


@contextlib.contextmanager
def account_scope() -> Any:
    """Act for the one account and region of this cloud, whatever thread we are on."""
    with _responses.request_scope(account_region["account"], account_region["region"]):
        yield


def on_startup(callback: Callable[[], Awaitable[None]]) -> None:
    """Run on the event loop after saved state is restored and before the first request is served."""
    _startup.append(callback)


def on_shutdown(callback: Callable[[], Awaitable[None]]) -> None:
    """Run on the event loop at a clean stop, in reverse order of registration, each within 20 s."""
    _shutdown.append(callback)


def run_on_event_loop(coroutine: Coroutine[Any, Any, Any], timeout: float) -> Any:
    """From a worker thread: run a coroutine on the event loop and wait for its result (seconds)."""
    return asyncio.run_coroutine_threadsafe(coroutine, _app._MAIN_LOOP).result(timeout)


async def lifespan(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    async def receive_and_stop() -> dict[str, Any]:
        message: dict[str, Any] = await receive()
        if message["type"] == "lifespan.shutdown":
            await _run_shutdown()
        return message

    async def start_and_send(message: dict[str, Any]) -> None:
        if message["type"] == "lifespan.startup.complete":
            try:
                for callback in _startup:
                    await callback()
            except Exception as error:
                log.exception("the laptop cloud could not start")
                message = {"type": "lifespan.startup.failed", "message": str(error)}
        await send(message)

    await _app.app(scope, receive_and_stop, start_and_send)


async def _run_shutdown() -> None:
    for callback in reversed(_shutdown):
        try:
            await asyncio.wait_for(callback(), _SHUTDOWN_SECONDS)
        except Exception:
            # One part that cannot stop must not keep the others from stopping.
            log.exception("a part of the laptop cloud did not stop cleanly")
