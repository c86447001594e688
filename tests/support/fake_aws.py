"""A small AWS endpoint on 127.0.0.1 that answers a few operations in the services' own formats.

For failures that no emulator has, such as expired credentials. What a test does not name is refused.
"""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """Status and body of one answer."""

    status: int
    body: str


@dataclass
class FakeAws:
    """Answers by operation (`Action` of the Query protocol, target of JSON); `calls` are those made."""

    replies: Mapping[str, Reply]
    calls: list[str] = field(default_factory=list)
    url: str = ""


def identity(account: str) -> Reply:
    """STS's answer to GetCallerIdentity."""
    return Reply(
        200,
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
        f"<Arn>arn:aws:iam::{account}:user/ada</Arn><UserId>AIDA</UserId><Account>{account}</Account>"
        "</GetCallerIdentityResult></GetCallerIdentityResponse>",
    )


def query_error(code: str, message: str, status: int = 403) -> Reply:
    """An error of a Query service such as STS."""
    return Reply(
        status,
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>",
    )


@contextmanager
def fake_aws(replies: Mapping[str, Reply]) -> Iterator[FakeAws]:
    """Serves until the end of the block."""
    cloud = FakeAws(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            target = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            operation = target or urllib.parse.parse_qs(body).get("Action", ["unknown"])[0]
            cloud.calls.append(operation)
            reply = cloud.replies.get(operation, query_error("UnknownOperation", operation, 400))
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(reply.body.encode())))
            self.end_headers()
            self.wfile.write(reply.body.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cloud.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield cloud
    finally:
        server.shutdown()
        server.server_close()
