"""How long a request's body may take to arrive at the emulator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Application = Callable[..., Awaitable[None]]
BODY_SECONDS = 55.0


class BodyTimeoutError(Exception):
    """A request's body did not arrive in time."""


def with_body_timeout(application: Application, seconds: float = BODY_SECONDS) -> Application:
    """The application, which gives a request up whose body has not arrived after so long: 408.

    Without it half a request holds a file descriptor for ever.
    """

    async def limited(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await application(scope, receive, send)
        deadline, is_whole, has_begun = asyncio.get_running_loop().time() + seconds, False, False

        async def receive_in_time() -> Any:
            nonlocal is_whole
            if is_whole:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise BodyTimeoutError from None
            is_whole = not message.get("more_body", False)
            return message

        async def noted_send(message: Any) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await application(scope, receive_in_time, noted_send)
        except BodyTimeoutError:
            if not has_begun:
                headers = [(b"content-length", b"0"), (b"connection", b"close")]
                await send({"type": "http.response.start", "status": 408, "headers": headers})
                await send({"type": "http.response.body", "body": b""})

    return limited
