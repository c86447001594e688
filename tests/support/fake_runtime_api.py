"""A Lambda Runtime API over real HTTP: hands out events, takes replies piece by piece. Scripted by tests."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_SECONDS = 60


@dataclass
class Posted:
    """What the runtime posted: the path below `/runtime/`, its headers, the chunks as they came, trailers."""

    path: str
    headers: dict[str, str]
    chunks: list[bytes] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    connection: int = 0

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


@dataclass
class FakeRuntimeApi:
    """`events` are handed out in order; `posted` is filled once a post has ended."""

    address: str = ""
    events: queue.Queue[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=queue.Queue)
    posted: queue.Queue[Posted] = field(default_factory=queue.Queue)
    on_chunk: Callable[[int], None] = lambda number: None
    hang_up_after: int | None = None  # chunks, then the connection is cut

    def send(self, request_id: str, event: dict[str, Any], **headers: str) -> None:
        self.events.put((request_id, event, headers))

    def receive(self) -> Posted:
        return self.posted.get(timeout=WAIT_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        assert self.path == "/2018-06-01/runtime/invocation/next"
        try:
            request_id, event, headers = self.server.api.events.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            self.close_connection = True
            return
        body = json.dumps(event).encode()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        api = self.server.api
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.removeprefix("/2018-06-01/runtime/")
        posted = Posted(path, headers, connection=self.client_address[1])
        if headers.get("transfer-encoding") == "chunked":
            if not self._read_chunks(api, posted):
                self.close_connection = True
                return
        else:
            posted.chunks.append(self.rfile.read(int(headers["content-length"])))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        api.posted.put(posted)

    def _read_chunks(self, api: FakeRuntimeApi, posted: Posted) -> bool:
        while size := int(self.rfile.readline(), 16):
            posted.chunks.append(self.rfile.read(size))
            self.rfile.readline()
            api.on_chunk(len(posted.chunks))
            if api.hang_up_after == len(posted.chunks):
                return False
        while (line := self.rfile.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            posted.trailers[name.lower()] = value
        return True

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read standard output; a server's chatter is not for it."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    api: FakeRuntimeApi


@contextmanager
def running() -> Iterator[FakeRuntimeApi]:
    """The fake on a free port of 127.0.0.1."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.api = FakeRuntimeApi(address=f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.api
    finally:
        server.shutdown()
        server.server_close()
