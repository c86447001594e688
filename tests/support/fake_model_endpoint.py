"""A SageMaker Runtime that speaks the real wire format, for the real client to read. Scripted by tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.event_stream import payload_part as payload_part
from tests.support.event_stream import stream_error as stream_error


@dataclass
class Reply:
    """What the next call gets. `parts` are event-stream messages; `break_off` cuts the connection then."""

    parts: Iterable[bytes] = ()
    status: int = 200
    error: tuple[str | None, dict[str, Any]] | None = None
    variant: str | None = "champion"
    break_off: bool = False
    hold: threading.Event | None = None  # waited for after the first part


@dataclass
class FakeSageMaker:
    """Replies in order; the last one repeats. `calls`: what was asked, headers in lower case and body."""

    replies: list[Reply] = field(default_factory=list)
    replies_of: dict[str, Reply] = field(default_factory=dict)  # by endpoint name, for ever the same
    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)  # the callers' ports
    paths: list[str] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)  # a caller closed in the middle
    url: str = ""

    def next_reply(self, path: str) -> Reply:
        for name, reply in self.replies_of.items():
            if path.startswith(f"/endpoints/{name}/"):
                return reply
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        fake = self.server.fake
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fake.connections.add(self.client_address[1])
        fake.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
        fake.paths.append(self.path)
        reply = fake.next_reply(self.path)
        if reply.error is not None:
            self._refuse(reply)
            return
        if reply.break_off and not reply.parts:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.amazon.eventstream")
        self.send_header("X-Amzn-SageMaker-Content-Type", "text/event-stream")
        if reply.variant:
            self.send_header("x-Amzn-Invoked-Production-Variant", reply.variant)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self._send(reply)
        except OSError:
            fake.gone.set()
            self.close_connection = True

    def _send(self, reply: Reply) -> None:
        for number, part in enumerate(reply.parts):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.flush()
            if number == 0 and reply.hold is not None:
                reply.hold.wait(30)
        if reply.break_off:
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, reply: Reply) -> None:
        assert reply.error is not None
        code, fields = reply.error
        body = json.dumps(fields).encode()
        self.send_response(reply.status)
        if code:
            self.send_header("x-amzn-ErrorType", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read standard output; a server's chatter is not for it."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeSageMaker


@contextmanager
def running() -> Iterator[FakeSageMaker]:
    """The fake on a free port of 127.0.0.1."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.fake = FakeSageMaker()
    server.fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.fake
    finally:
        server.shutdown()
        server.server_close()


def chat_events(
    *texts: str, finish: str = "stop", usage: tuple[int, int] = (5, 3), done: bool = True
) -> bytes:
    """An answer as the container streams it: role, texts, finish reason, usage, `[DONE]`."""
    base = {"id": "inner", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "inner-name"}
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": text}, None) for text in texts]
    deltas.append(({}, finish))
    chunks: list[dict[str, Any]] = [
        {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in deltas
    ]
    prompt, completion = usage
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    chunks.append({**base, "choices": [], "usage": counts})
    events = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    return events + (b"data: [DONE]\n\n" if done else b"")


def cut(data: bytes, size: int) -> list[bytes]:
    """The bytes as payload parts of `size`, which need not fall on the ends of events."""
    return [payload_part(data[start : start + size]) for start in range(0, len(data), size)]
