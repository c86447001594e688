"""The emulator's HTTP server: what is on the wire, and what the application gets of it."""

from __future__ import annotations

import asyncio
import contextvars
import http.client
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.cloud.http_connection import MAX_HEAD_BYTES, Connection
from local.cloud.http_exchange import MAX_BUFFERED_BYTES
from local.cloud.http_server import serve_until_stopped

SECONDS = 60
App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
_seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


async def body_of(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError
        body, more = body + message["body"], message["more_body"]
    return body


async def answer(send: Any, *pieces: bytes, status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    for number, piece in enumerate(pieces, 1):
        await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = await body_of(receive)
    before = _seen.get()
    _seen.set("another request's")
    await answer(send, scope["method"].encode() + b" " + scope["raw_path"] + b" " + body + before.encode())


def exchanged(app: App, *data: bytes, idle: float = SECONDS) -> bytes:
    """All that comes back for these bytes, each sent by itself, until the server closes."""

    async def talk() -> bytes:
        connections: set[Connection] = set()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(app, connections, idle), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for piece in data:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        received = await asyncio.wait_for(reader.read(), SECONDS)
        writer.close()
        server.close()
        return received

    return asyncio.run(talk())


def request(head: str, body: bytes = b"") -> bytes:
    return head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body


CLOSING = "GET /a HTTP/1.1\nConnection: close"


def replies(data: bytes, count: int = 1, method: str = "GET") -> list[tuple[int, bytes]]:
    """The replies in the bytes, as http.client reads them."""
    ours, theirs = socket.socketpair()
    found = []
    with ours, theirs:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        stream = theirs.makefile("rb")
        for _ in range(count):
            reply = http.client.HTTPResponse(theirs, method=method)
            reply.fp = stream  # one buffer for all of them
            reply.begin()
            found.append((reply.status, reply.read()))
            stream = reply.fp if reply.fp else stream
    return found


def test_requests_of_one_connection_are_answered_in_order_and_share_nothing() -> None:
    first = request("POST /%61?q=1 HTTP/1.1\nContent-Length: 2", b"hi")
    data = exchanged(echo, first + request("PUT /b HTTP/1.1\nConnection: close\nContent-Length: 1", b"x"))
    assert b"POST /%61 hinothing" in data
    assert b"PUT /b xnothing" in data
    assert data.index(b"POST") < data.index(b"PUT")


@settings(max_examples=25)
@given(st.binary(max_size=300), st.integers(1, 50), st.integers(1, 40))
def test_a_body_in_chunks_is_put_together_however_it_is_cut(body: bytes, size: int, cut: int) -> None:
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x;e=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nx-t: 1\r\n\r\n"
    data = request("POST /a HTTP/1.1\nConnection: close\nTransfer-Encoding: chunked") + framed
    pieces = [data[start : start + cut] for start in range(0, len(data), cut)]
    assert exchanged(echo, *pieces).partition(b"\r\n\r\n")[2] == b"POST /a " + body + b"nothing"


def test_small_pieces_are_not_held_back() -> None:
    options = []

    async def talk() -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)  # as the cloud makes it
        listener.bind(("127.0.0.1", 0))
        connections: set[Connection] = set()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(echo, connections, SECONDS), sock=listener)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(request("GET / HTTP/1.1"))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
        for connection in connections:
            accepted = connection.transport.get_extra_info("socket")
            options.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()
        server.close()

    asyncio.run(talk())
    assert options == [1]


def test_a_body_larger_than_what_is_read_ahead_arrives_whole() -> None:
    body = os.urandom(5 * MAX_BUFFERED_BYTES)

    async def slow(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05)
        assert await body_of(receive) == body
        await answer(send, b"same")

    head = f"POST / HTTP/1.1\nConnection: close\nContent-Length: {len(body)}"
    assert replies(exchanged(slow, request(head, body))) == [(200, b"same")]


def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    head = "POST / HTTP/1.1\nExpect: 100-continue\nConnection: close\nContent-Length: 2"

    async def talk() -> bytes:
        connections: set[Connection] = set()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(echo, connections, SECONDS), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request(head))
        assert (
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS) == b"HTTP/1.1 100 Continue\r\n\r\n"
        )
        writer.write(b"hi")
        whole = await asyncio.wait_for(reader.read(), SECONDS)
        server.close()
        return whole

    assert replies(asyncio.run(talk()))[0] == (200, b"POST / hinothing")


@pytest.mark.parametrize(
    ("head", "pieces", "headers", "expected"),
    [
        (CLOSING, [b"abc"], [], b"content-length: 3\r\nconnection: close\r\n\r\nabc"),
        (CLOSING, [b"ab", b"c"], [], b"chunked\r\nconnection: close\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        (CLOSING, [b"ab", b"", b"c"], [(b"Content-Length", b"3")], b"connection: close\r\n\r\nabc"),
        (CLOSING.replace("GET", "HEAD"), [b"abc"], [], b"content-length: 3\r\nconnection: close\r\n\r\n"),
        ("GET / HTTP/1.0", [b"ab", b"c"], [], b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"),
        (
            "GET / HTTP/1.1",
            [b"abc"],
            [(b"connection", b"close")],
            b"length: 3\r\nconnection: close\r\n\r\nabc",
        ),
    ],
)
def test_the_end_of_a_reply_can_be_told(
    head: str, pieces: list[bytes], headers: list[tuple[bytes, bytes]], expected: bytes
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, *pieces, headers=headers)

    assert exchanged(app, request(head)).endswith(expected)


def test_a_reply_without_a_body_has_none() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"left out", status=204)

    assert exchanged(app, request(CLOSING)) == b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


async def fails(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError


async def says_nothing(scope: Any, receive: Any, send: Any) -> None:
    pass


@pytest.mark.parametrize("app", [fails, says_nothing])
def test_an_application_that_fails_is_an_error_of_the_server(app: App) -> None:
    assert replies(exchanged(app, request("GET / HTTP/1.1"))) == [(500, b"")]


def test_a_reply_that_breaks_off_is_told_from_a_whole_one() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError

    with pytest.raises(http.client.IncompleteRead):
        replies(exchanged(app, request("GET / HTTP/1.1")))


def test_a_header_cannot_begin_a_line_of_its_own() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"", headers=[(b"a", b"b\r\nc: d")])

    assert b"c: d" not in exchanged(app, request(CLOSING))


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nname : v\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\x00\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\na: " + b"b" * (MAX_HEAD_BYTES + 1),
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    assert exchanged(echo, data).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_the_application_hears_that_its_client_has_gone() -> None:
    heard, asked = [], asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        asked.set()
        heard.append((await receive())["type"])

    async def talk() -> None:
        connections: set[Connection] = set()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(app, connections, SECONDS), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request("GET / HTTP/1.1"))
        await writer.drain()
        await asyncio.wait_for(asked.wait(), SECONDS)
        tasks = [connection.task for connection in connections if connection.task]
        writer.close()
        await asyncio.wait_for(asyncio.gather(*tasks), SECONDS)
        server.close()

    asyncio.run(talk())
    assert heard == ["http.disconnect"]


@pytest.mark.parametrize("data", [b"", b"GET / HTT", b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\na"])
def test_a_client_that_sends_nothing_more_is_let_go(data: bytes) -> None:
    assert exchanged(echo, data, idle=0.05) == b""


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
        await asyncio.sleep(0.05)
        await answer(send, b"whole")

    async def talk() -> bytes:
        listener = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.ensure_future(serve_until_stopped(app, listener))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(request("GET / HTTP/1.1"))
        received = await asyncio.wait_for(reader.read(), SECONDS)
        await asyncio.wait_for(serving, SECONDS)
        return received

    assert replies(asyncio.run(talk())) == [(200, b"whole")]
    assert events == ["lifespan.startup", "request", "lifespan.shutdown"]


def test_an_application_that_cannot_start_is_not_served() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no state"})

    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(RuntimeError, match="no state"):
        asyncio.run(serve_until_stopped(app, listener))
