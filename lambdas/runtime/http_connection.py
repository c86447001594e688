"""HTTP/1.1 over one kept-alive connection: what a function needs to call AWS and the Runtime API.

`http.client` does all of this and more, and took a third of a chat's processor time: it sends head and body
apart, and parses headers as those of an e-mail (bench/results/function.md). A test holds this to what
`http.client` reads. Left out: proxies, redirects, compression, `Expect`. Standard library only.
Source: RFC 9112, "HTTP/1.1".
"""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

_READ_BYTES = 65_536
_MAX_HEAD_BYTES = 65_536
_MAX_LINE_BYTES = 4_096
_BODILESS = {204, 304}
_DIGITS = {10: re.compile(rb"[0-9]{1,18}"), 16: re.compile(rb"[0-9A-Fa-f]{1,15}")}


class HttpProtocolError(Exception):
    """What came is no reply, or broke off."""


class HttpConnection:
    """One connection, which opens with the first request. Not for use by several threads.

    `connect_timeout` and `read_timeout` (between bytes; None: for ever) are in seconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connect_timeout: float | None,
        read_timeout: float | None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._address = host, port
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._tls = tls
        self._socket: socket.socket | None = None
        self._received = b""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as this side knows."""
        return self._socket is not None

    @property
    def is_stale(self) -> bool:
        """Whether the other side has closed it, or sent what nobody asked for."""
        if self._socket is None:
            return True
        waiting = select.poll()  # select() knows only the first 1024 descriptors
        waiting.register(self._socket, select.POLLIN)
        return bool(self._received or waiting.poll(0))

    def connect(self) -> None:
        """Raises OSError."""
        opened = socket.create_connection(self._address, self._connect_timeout)
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                opened = self._tls.wrap_socket(opened, server_hostname=self._address[0])
            opened.settimeout(self._read_timeout)
        except BaseException:
            opened.close()
            raise
        self._socket, self._received = opened, b""

    def set_read_timeout(self, seconds: float | None) -> None:
        """From now on."""
        self._read_timeout = seconds
        if self._socket is not None:
            self._socket.settimeout(seconds)

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send a whole request, head and body at once. `headers` hold `host`. Raises OSError."""
        self.send(request_head(method, path, {**headers, "content-length": str(len(body))}) + body)

    def send(self, data: bytes) -> None:
        """Send bytes as they are. Raises OSError."""
        if self._socket is None:
            self.connect()
        assert self._socket is not None
        self._socket.sendall(data)

    def response(self, method: str = "POST") -> HttpResponse:
        """The reply's head; its body is to be read next. Raises OSError or HttpProtocolError."""
        while True:
            status, version, headers = parse_head(self._head())
            if status >= 200:
                return HttpResponse(self, status, version, headers, method)

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _head(self) -> bytes:
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if len(self._received) > _MAX_HEAD_BYTES:
                raise HttpProtocolError("the head of the reply is too long")
            self.fill()
        head, self._received = self._received[:end], self._received[end + 4 :]
        return head

    def fill(self) -> None:
        """Wait for more bytes. Raises OSError, or HttpProtocolError where the other side has closed."""
        piece = self._socket.recv(_READ_BYTES) if self._socket is not None else b""
        if not piece:
            raise HttpProtocolError("the connection was closed")
        self._received = self._received + piece if self._received else piece

    def take(self, most: int) -> bytes:
        """Up to so many bytes, at least one. Raises as `fill` does."""
        if not self._received:
            self.fill()
        if len(self._received) <= most:
            taken, self._received = self._received, b""
        else:
            taken, self._received = self._received[:most], self._received[most:]
        return taken

    def line(self) -> bytes:
        """Up to the end of the line, which is left out. Raises as `fill` does."""
        while (end := self._received.find(b"\r\n")) < 0:
            if len(self._received) > _MAX_LINE_BYTES:
                raise HttpProtocolError("a line of the reply is too long")
            self.fill()
        line, self._received = self._received[:end], self._received[end + 2 :]
        return line


class HttpResponse:
    """A reply. Its connection serves the next request once `pieces` has come to its end.

    `headers` by their names in lower case; several of one name are joined by commas.
    """

    def __init__(
        self, connection: HttpConnection, status: int, version: bytes, headers: dict[str, str], method: str
    ) -> None:
        self.status, self.headers = status, headers
        self.is_read = False
        self._connection = connection
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left: int | None = None
        if method == "HEAD" or status in _BODILESS:
            self._chunked, self._left = False, 0
        elif not self._chunked and "content-length" in headers:
            self._left = _length(headers["content-length"].encode(), 10)
        tokens = headers.get("connection", "").lower()
        closes = "close" in tokens if version == b"HTTP/1.1" else "keep-alive" not in tokens
        self._closes = closes or (self._left is None and not self._chunked)

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. Raises OSError, or HttpProtocolError where it breaks off."""
        if self._chunked:
            yield from self._chunks()
        elif self._left is not None:
            while self._left:
                piece = self._connection.take(self._left)
                self._left -= len(piece)
                yield piece
        else:
            yield from self._until_closed()
        self.is_read = True
        if self._closes:
            self._connection.close()

    def read(self) -> bytes:
        """The whole body. Raises as `pieces` does."""
        return b"".join(self.pieces())

    def _chunks(self) -> Iterator[bytes]:
        connection = self._connection
        while left := _length(connection.line().partition(b";")[0].strip(), 16):
            while left:
                piece = connection.take(left)
                left -= len(piece)
                yield piece
            if connection.line():
                raise HttpProtocolError("a chunk is longer than it says")
        while connection.line():
            pass  # trailers

    def _until_closed(self) -> Iterator[bytes]:
        while True:
            try:
                piece = self._connection.take(_READ_BYTES)
            except HttpProtocolError:
                return
            yield piece


def request_head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request. Raises ValueError where a value would end its line."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or not path.isprintable():
        raise ValueError("a header or the path holds a line break")
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def parse_head(head: bytes) -> tuple[int, bytes, dict[str, str]]:
    """Status, version and headers of a reply's head. Raises HttpProtocolError."""
    first, *lines = head.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    status = rest[:3]
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not status.isdigit() or not b"100" <= status <= b"599":
        raise HttpProtocolError("the reply does not begin as HTTP/1.1 does")
    headers: dict[str, str] = {}
    for line in lines:
        raw_name, colon, raw_value = line.partition(b":")
        if not colon or not raw_name or raw_name[-1:].isspace() or raw_name[:1].isspace():
            raise HttpProtocolError("a header of the reply cannot be read")
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(status), version, headers


def _length(digits: bytes, base: int) -> int:
    if not _DIGITS[base].fullmatch(digits):  # int() takes more than digits
        raise HttpProtocolError("a length of the reply is no number")
    return int(digits, base)
