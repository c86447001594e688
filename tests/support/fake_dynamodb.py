"""A DynamoDB over real HTTP: moto's tables behind the service's own wire format."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.session
from botocore.exceptions import ClientError
from moto import mock_aws

_session = botocore.session.Session()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        parameters = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        method = re.sub(r"(?<!^)([A-Z])", r"_\1", operation).lower()
        try:
            # DynamoDB's single-item writes are atomic; moto's are made so by doing one at a time.
            with self.server.one_at_a_time:
                answer = getattr(self.server.client, method)(**parameters)
            self._reply(200, answer)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            refusal = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": str(error)}
            self._reply(400, refusal | ({"Item": error.response["Item"]} if "Item" in error.response else {}))

    def _reply(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer, default=str).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read standard output; a server's chatter is not for it."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    client: Any
    one_at_a_time: threading.Lock


@contextmanager
def running() -> Iterator[tuple[Any, str]]:
    """A client of the tables, and the address under which they are served."""
    with mock_aws():
        server = _Server(("127.0.0.1", 0), _Handler)
        server.client = _session.create_client("dynamodb", region_name="us-east-1")
        server.one_at_a_time = threading.Lock()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.client, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
