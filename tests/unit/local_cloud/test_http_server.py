"""The emulator's HTTP server: what is on the wire, what the application gets, how it starts and stops."""

from __future__ import annotations

import asyncio
import contextvars
import http.client
import io
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.cloud import http_server
from local.cloud.http_server import serve_until_stopped

SECONDS = 60
App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]
CLOSING = "GET /a HTTP/1.1\nConnection: close"
_seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


async def body_of(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    return body


async def answer(send: Any, *pieces: bytes, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    for number, piece in enumerate(pieces, 1):
        await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = await body_of(receive)
    before = _seen.get()
    _seen.set("another request's")
    text = scope["method"].encode() + b" " + scope["raw_path"] + b" " + body + before.encode()
    await answer(send, text, headers=[(b"content-length", str(len(text)).encode())])


def living(app: App) -> App:
    """An application that starts and stops when told to."""

    async def whole(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            return await app(scope, receive, send)
        for _ in range(2):
            await send({"type": f"{(await receive())['type']}.complete"})

    return whole


def talked(app: App, talk: Talk) -> bytes:
    """What a conversation with a server of this application gives."""

    async def run() -> bytes:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)  # as the cloud makes it
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        serving = asyncio.ensure_future(serve_until_stopped(living(app), listener))
        try:
            async with asyncio.timeout(SECONDS):
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                received = await talk(reader, writer)
                writer.close()
                return received
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(serving, SECONDS)

    return asyncio.run(run())


def exchanged(app: App, *data: bytes) -> bytes:
    """All that comes back for these bytes, each sent by itself, until the server closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        for piece in data:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return await reader.read()

    return talked(app, talk)


def request(head: str, body: bytes = b"") -> bytes:
    return head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body


def reply(data: bytes) -> tuple[int, bytes]:
    """The reply in the bytes, as http.client reads it."""

    class Received:
        def makefile(self, _mode: str) -> io.BytesIO:
            return io.BytesIO(data)

    found = http.client.HTTPResponse(cast("socket.socket", Received()))
    found.begin()
    return found.status, found.read()


def test_requests_of_one_connection_are_answered_in_order_and_share_nothing() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(request("POST /%61?q=1 HTTP/1.1\nContent-Length: 2", b"hi"))
        first = await reader.readuntil(b"nothing")
        writer.write(request("PUT /b HTTP/1.1\nConnection: close\nContent-Length: 1", b"x"))
        return first + await reader.read()

    data = talked(echo, talk)
    assert data.index(b"POST /%61 hinothing") < data.index(b"PUT /b xnothing")


@settings(max_examples=8, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 50), st.integers(1, 40))
def test_a_body_in_chunks_is_put_together_however_it_is_cut(body: bytes, size: int, cut: int) -> None:
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x;e=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nx-t: 1\r\n\r\n"
    data = request("POST /a HTTP/1.1\nConnection: close\nTransfer-Encoding: chunked") + framed
    pieces = [data[start : start + cut] for start in range(0, len(data), cut)]
    assert exchanged(echo, *pieces).partition(b"\r\n\r\n")[2] == b"POST /a " + body + b"nothing"


def test_small_pieces_are_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    take = http_server.Connection.connection_made

    def noted(self: http_server.Connection, transport: asyncio.BaseTransport) -> None:
        take(self, transport)
        accepted = transport.get_extra_info("socket")
        made.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(http_server.Connection, "connection_made", noted)
    exchanged(echo, request(CLOSING))
    assert made == [1]


def test_a_large_body_arrives_whole_and_a_reply_in_pieces_too() -> None:
    body = os.urandom(5_000_000)

    async def slow(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05)
        received = await body_of(receive)
        await answer(
            send, *(received[start : start + 1_000_000] for start in range(0, len(received), 1_000_000))
        )

    head = f"POST / HTTP/1.1\nConnection: close\nContent-Length: {len(body)}"
    assert reply(exchanged(slow, request(head, body))) == (200, body)


def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    head = "POST / HTTP/1.1\nExpect: 100-continue\nConnection: close\nContent-Length: 2"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(request(head))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 Continue\r\n")
        writer.write(b"hi")
        return await reader.read()

    assert reply(talked(echo, talk)) == (200, b"POST / hinothing")


async def fails(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError


async def says_nothing(scope: Any, receive: Any, send: Any) -> None:
    pass


@pytest.mark.parametrize("app", [fails, says_nothing])
def test_an_application_that_fails_is_an_error_of_the_server(app: App) -> None:
    assert reply(exchanged(app, request(CLOSING)))[0] == 500


def test_a_reply_that_breaks_off_is_told_from_a_whole_one() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError

    with pytest.raises(http.client.IncompleteRead):
        reply(exchanged(app, request("GET / HTTP/1.1")))


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\x00\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    assert exchanged(echo, data).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_the_application_hears_that_its_client_has_gone() -> None:
    heard, asked, told = [], asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        asked.set()
        heard.append((await receive())["type"])
        told.set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(request("GET / HTTP/1.1"))
        await asked.wait()
        writer.close()
        await told.wait()
        return b""

    talked(app, talk)
    assert heard == ["http.disconnect"]


@pytest.mark.parametrize("data", [b"", b"GET / HTT", request("GET / HTTP/1.1")], ids=["none", "half", "one"])
def test_a_client_that_sends_nothing_more_is_let_go(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(http_server, "KEEP_ALIVE_SECONDS", 0.2)
    assert exchanged(echo, data).startswith(b"HTTP/1.1 200" if data.endswith(b"\r\n\r\n") else b"")


def test_the_server_starts_and_stops_with_the_application_and_ends_what_is_under_way() -> None:
    events: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                event = (await receive())["type"]
                events.append(event)
                await send({"type": f"{event}.complete"})
            return
        events.append("request")
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.3)
        await answer(send, b"whole")

    async def run() -> bytes:
        listener = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.ensure_future(serve_until_stopped(app, listener))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(request("GET / HTTP/1.1"))
        received = await asyncio.wait_for(reader.read(), SECONDS)
        await asyncio.wait_for(serving, SECONDS)
        return received

    assert reply(asyncio.run(run())) == (200, b"whole")
    assert events == ["lifespan.startup", "request", "lifespan.shutdown"]


def test_an_application_that_cannot_start_is_not_served() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no state"})

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(RuntimeError, match="did not start"),
    ):
        asyncio.run(serve_until_stopped(app, listener))
