"""Half a request to the emulator is given up, and never taken for a whole one."""

from __future__ import annotations

import asyncio
from typing import Any

from local.cloud.body_timeout import with_body_timeout

HALF = {"type": "http.request", "body": b"ab", "more_body": True}
REST = {"type": "http.request", "body": b"c", "more_body": False}


def sent(*pieces: dict[str, Any], seconds: float) -> tuple[list[Any], list[bytes]]:
    """The messages sent for these pieces, after which nothing comes; and what was taken for whole."""
    messages: list[Any] = []
    whole: list[bytes] = []
    coming = iter(pieces)

    async def receive() -> Any:
        for piece in coming:
            return piece
        await asyncio.Event().wait()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        whole.append(body)
        await asyncio.sleep(2 * seconds if seconds < 1 else 0)  # an answer may take longer than the body
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def send(message: Any) -> None:
        messages.append(message)

    async def run() -> None:
        await with_body_timeout(application, seconds)({"type": "http"}, receive, send)

    asyncio.run(run())
    return messages, whole


def test_half_a_body_is_given_up() -> None:
    messages, whole = sent(HALF, seconds=0.05)
    assert [message.get("status") for message in messages] == [408, None]
    assert whole == []


def test_a_whole_body_is_answered_however_late() -> None:
    messages, whole = sent(HALF, REST, seconds=0.5)
    assert [message.get("status") for message in messages] == [200, None]
    assert whole == [b"abc"]
