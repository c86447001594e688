"""Streaming bodies, as the emulator's server sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from local.cloud.ministack_adapter.scope import log


def asgi_sender(chunks: AsyncIterator[bytes]) -> Callable[..., Awaitable[None]]:
    """Pump the iterator into ASGI. The last frame is sent only when the iterator ended well, so that a
    broken stream reaches the client as a truncated body."""

    async def pump(send: Callable[..., Awaitable[None]]) -> None:
        async for chunk in chunks:
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def until_gone(receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def run(
        send: Callable[..., Awaitable[None]], receive: Callable[[], Awaitable[dict[str, Any]]]
    ) -> None:
        pumping = asyncio.ensure_future(pump(send))
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            await asyncio.wait({pumping, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not pumping.done():
                return
            try:
                pumping.result()
            except Exception as error:  # noqa: BLE001 - any fault of the body cuts the reply off
                log.warning("a streamed reply was cut off: %s", error)
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            for task in (pumping, gone):
                task.cancel()
            await asyncio.gather(pumping, gone, return_exceptions=True)
            close = getattr(chunks, "aclose", None)
            if close:
                await close()

    return run
