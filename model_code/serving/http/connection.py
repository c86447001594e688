"""A request's caller as ASGI shows it: its body, and its leaving. Ours and the hook's; knows no operation."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from model_code.serving.errors import invalid

MAX_BODY_BYTES = 6 * 1024 * 1024
"""SageMaker's own limit for a real-time request; what is larger never arrives there."""
BODY_SECONDS = 30.0
"""Longest that a body may take to arrive: half a request holds a file descriptor."""
STATUS_CLIENT_DISCONNECTED = 499  # nginx's number for it; only logs and metrics see it


class ClientDisconnectedError(Exception):
    """The client closed its connection."""


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises ClientDisconnectedError, and ServingError where it is too large or too slow."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_body(receive)
    except TimeoutError:
        text = f"The body did not arrive within {BODY_SECONDS:.0f} s."
        raise invalid(text, code="request_timeout", status=408) from None


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            text = f"The body is larger than {MAX_BODY_BYTES} bytes."
            raise invalid(text, code="request_too_large", status=413)
        if not message.get("more_body", False):
            return bytes(body)


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
