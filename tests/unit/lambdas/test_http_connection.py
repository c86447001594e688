"""HTTP/1.1 as the functions speak it: it reads what `http.client` reads, and refuses what is no reply."""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.runtime.http_connection import HttpConnection, HttpProtocolError, HttpResponse, request_head

TOKENS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


class Bytes(HttpConnection):
    """A connection on which these pieces come, and then its end."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__("h", 1, connect_timeout=None, read_timeout=None)
        self._pieces = pieces
        self._socket: Any = self

    def recv(self, _most: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def close(self) -> None:
        self._socket = None


class Recorded:
    """The same bytes for `http.client`."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start : start + size])
        start += size
    return [piece for piece in [*pieces, data[start:]] if piece]


def read_all(data: bytes, sizes: list[int] | None = None, method: str = "POST") -> tuple[HttpResponse, bytes]:
    response = Bytes(cut(data, sizes or [])).response(method)
    return response, response.read()


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    body = draw(st.binary(max_size=60))
    own = draw(st.dictionaries(TOKENS, VALUES, max_size=4))
    for name in ("content-length", "transfer-encoding", "connection"):
        own.pop(name, None)
    lines = [
        f"{name}:{draw(st.sampled_from(['', ' ', '  ']))}{value}".encode() for name, value in own.items()
    ]
    kind = draw(st.sampled_from(["length", "chunked", "close"]))
    if kind == "length":
        lines.append(b"Content-Length: %d" % len(body))
    elif kind == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        size = draw(st.integers(1, 20))
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
        extension = draw(st.sampled_from([b"", b";a=b", b" "]))
        body = b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
        body += b"0\r\n" + draw(st.sampled_from([b"", b"x-trailer: 1\r\n"])) + b"\r\n"
    early = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    status = draw(st.sampled_from([b"200 OK", b"404 Not Found", b"503 "]))
    return early + b"\r\n".join([b"HTTP/1.1 " + status, *lines]) + b"\r\n\r\n" + body


@given(replies(), st.lists(st.integers(1, 30), max_size=8))
def test_replies_read_as_http_client_reads_them(data: bytes, sizes: list[int]) -> None:
    theirs = http.client.HTTPResponse(Recorded(data), method="POST")  # type: ignore[arg-type]
    theirs.begin()
    response, body = read_all(data, sizes)
    assert (response.status, body) == (theirs.status, theirs.read())
    for name in theirs.headers:
        assert response.headers[name.lower()] == ", ".join(theirs.headers.get_all(name) or [])


@pytest.mark.parametrize(
    ("data", "is_kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", False),
        (b"HTTP/1.1 200 OK\r\n\r\nab", False),
    ],
)
def test_a_connection_is_kept_where_the_reply_says_where_it_ends(data: bytes, is_kept: bool) -> None:
    connection = Bytes([data])
    assert connection.response().read() == b"ab"
    assert connection.is_open == is_kept


def test_two_replies_on_one_connection() -> None:
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
    connection = Bytes([one + b"a" + one + b"b"])
    assert [connection.response().read(), connection.response().read()] == [b"a", b"b"]


@pytest.mark.parametrize(("status", "method"), [(200, "HEAD"), (204, "POST"), (304, "GET")])
def test_a_reply_without_a_body_ends_with_its_head(status: int, method: str) -> None:
    assert read_all(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status, method=method)[1] == b""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 99 Odd\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nname : value\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r\n folded: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000,
    ],
)
def test_what_is_no_whole_reply_is_an_error(data: bytes) -> None:
    with pytest.raises(HttpProtocolError):
        read_all(data, [4_096] * 50)


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/", {"a": "b\r\nc: d"}), ("/", {"a": "b\nc"}), ("/", {"a\r\nb": "c"}), ("/ HTTP/1.1\r\na: b", {})],
)
def test_no_value_begins_a_line_of_its_own(path: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        request_head("POST", path, headers)


@pytest.fixture
def pair() -> Iterator[tuple[HttpConnection, socket.socket]]:
    """A connection and the other side of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        connection = HttpConnection(host, port, connect_timeout=60, read_timeout=60)
        connection.connect()
        other, _ = listener.accept()
    other.settimeout(60)
    with other:
        yield connection, other
    connection.close()


def test_a_request_goes_out_in_one_piece(pair: tuple[HttpConnection, socket.socket]) -> None:
    connection, other = pair
    connection.request("POST", "/a", {"host": "h"}, b"body")
    assert other.recv(65_536) == b"POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody"


def test_what_comes_between_requests_makes_a_connection_stale(
    pair: tuple[HttpConnection, socket.socket],
) -> None:
    connection, other = pair
    assert not connection.is_stale
    other.close()
    while not connection.is_stale:  # the end takes a moment to arrive, even on one machine
        pass
