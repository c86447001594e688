"""A provider's server that speaks the OpenAI API over HTTP, as loosely as a test scripts it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What a call gets: `body` is sent as it is; `break_off` cuts the connection behind it."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    break_off: bool = False


@dataclass
class Call:
    path: str
    headers: dict[str, str]  # names in lower case
    body: dict[str, Any]


@dataclass
class FakeProvider:
    """Replies in order; the last one repeats. Where `keys` are set, others are refused as OpenAI does."""

    replies: list[Reply] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)  # the callers' ports
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        fake = self.server.fake
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        fake.calls.append(Call(self.path, headers, body))
        fake.connections.add(self.client_address[1])
        key = headers.get("authorization", "").removeprefix("Bearer ")
        if fake.keys and key not in fake.keys:
            self._send(refused(401, f"Incorrect API key provided: {key}", "invalid_api_key"))
            return
        self._send(fake.replies.pop(0) if len(fake.replies) > 1 else fake.replies[0])

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(reply.body), 100):  # cut anywhere
            piece = reply.body[start : start + 100]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if reply.break_off:
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read standard output; a server's chatter is not for it."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeProvider


@contextmanager
def running() -> Iterator[FakeProvider]:
    """The server on a free port of 127.0.0.1; `url` ends in `/v1`, as SDKs have it."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.fake = FakeProvider(url=f"http://127.0.0.1:{server.server_port}/openai/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.fake
    finally:
        server.shutdown()
        server.server_close()


def refused(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """An error in OpenAI's shape."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    body = json.dumps({"error": error}).encode()
    return Reply(body, status, "application/json", {k.replace("_", "-"): v for k, v in headers.items()})


def stream(*chunks: dict[str, Any], done: bool = True, **more: Any) -> Reply:
    """Chunks as events."""
    body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    return Reply(body + (b"data: [DONE]\n\n" if done else b""), **more)


def said(text: str, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk that says something; `more` stands beside the protocol's fields."""
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return {
        "id": "far",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "far-1",
        "choices": [choice],
        **more,
    }


USAGE: dict[str, Any] = {
    "id": "far",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "far-1",
    "choices": [],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9, "cost": 0.1},
}
HELLO = (said(""), said("Hel"), said("lo", finish="stop"), USAGE)
