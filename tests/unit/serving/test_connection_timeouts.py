"""Half a request is given up: its head by the connection, its body by whoever reads it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

pytest.importorskip("httptools")
uvicorn = pytest.importorskip("uvicorn")

from model_code.serving.errors import ServingError  # noqa: E402
from model_code.serving.http import connection, connection_timeouts  # noqa: E402
from model_code.serving.http.connection import read_body  # noqa: E402
from model_code.serving.http.connection_timeouts import Connection  # noqa: E402

WAIT_SECONDS = 60
WHOLE = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers late: a head that has come is not timed."""
    await asyncio.sleep(connection_timeouts.HEAD_SECONDS * 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def replies(*pieces: bytes) -> list[bytes]:
    """What a server sends back to each piece; empty where it closes the connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            answer, http=Connection, lifespan="off", log_config=None, timeout_keep_alive=600
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve([listener]))
        found: list[bytes] = []
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not server.started:  # noqa: ASYNC110 - plain state of another's
                    await asyncio.sleep(0.01)
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                for piece in pieces:
                    writer.write(piece)
                    reply = await reader.read(4096)
                    while reply and not reply.endswith(b"ok"):
                        reply += await reader.readexactly(1)
                    found.append(reply)
                writer.close()
        finally:
            server.should_exit = True
            await running
    return found


@pytest.mark.parametrize(
    "pieces",
    [(b"",), (b"GET",), (WHOLE[:-2],), (WHOLE, WHOLE[:10])],
    ids=["nothing", "verb", "head", "second"],
)
def test_half_a_head_is_given_up(monkeypatch: pytest.MonkeyPatch, pieces: tuple[bytes, ...]) -> None:
    monkeypatch.setattr(connection_timeouts, "HEAD_SECONDS", 0.2)
    *answered, last = asyncio.run(replies(*pieces))
    assert last == b""
    assert all(reply.startswith(b"HTTP/1.1 200") for reply in answered)


def test_a_whole_head_is_answered_however_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_timeouts, "HEAD_SECONDS", 0.2)
    first, second = asyncio.run(replies(WHOLE, WHOLE))
    assert first.endswith(b"ok")
    assert second.endswith(b"ok")


def test_half_a_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_SECONDS", 0.05)
    pieces = iter([{"type": "http.request", "body": b"{", "more_body": True}])

    async def receive() -> Any:
        for piece in pieces:
            return piece
        await asyncio.Event().wait()

    with pytest.raises(ServingError) as refused:
        asyncio.run(read_body(receive))
    assert (refused.value.status, refused.value.code) == (408, "request_timeout")
