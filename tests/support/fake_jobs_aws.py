"""An S3 and an SQS over real HTTP, as far as jobs use them: objects by key, and messages as sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeWork:
    """`objects` by key without the bucket; `messages` as `(body, delay)`."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    messages: list[tuple[str, int]] = field(default_factory=list)
    queue_failures: list[int] = field(default_factory=list)  # statuses of the next sends
    broken_puts: list[int] = field(default_factory=list)  # statuses of the next puts; 0 for one that works

    def lines(self, key: str) -> list[Any]:
        """An object's JSON lines."""
        return [json.loads(line) for line in self.objects[key].splitlines()]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_PUT(self) -> None:
        body = self._body()
        if self._failed(self.server.fake.broken_puts):
            return
        self.server.fake.objects[self._key()] = body
        self._reply(200)

    def do_GET(self) -> None:
        found = self.server.fake.objects.get(self._key())
        self._reply(200 if found is not None else 404, found or b"")

    def do_DELETE(self) -> None:
        self.server.fake.objects.pop(self._key(), None)
        self._reply(204)

    def do_POST(self) -> None:
        message = json.loads(self._body())
        if self._failed(self.server.fake.queue_failures):
            return
        assert self.headers["X-Amz-Target"] == "AmazonSQS.SendMessage"
        self.server.fake.messages.append((message["MessageBody"], message["DelaySeconds"]))
        self._reply(200, b'{"MessageId":"m"}')

    def _failed(self, statuses: list[int]) -> bool:
        status = statuses.pop(0) if statuses else 0
        if status:
            self._reply(status, b"<Error/>")
        return status != 0

    def _key(self) -> str:
        assert "/work/" in self.path
        return self.path.removeprefix("/work/")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read standard output; a server's chatter is not for it."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeWork


@contextmanager
def running() -> Iterator[FakeWork]:
    """The fake on a free port of 127.0.0.1; its bucket is called `work`."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.fake = FakeWork()
    server.fake.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server.fake
    finally:
        server.shutdown()
        server.server_close()
