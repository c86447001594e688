"""A stand-in for a model container: a real process on the standard library alone.

Answers `/ping` and `/invocations` by SageMaker's contract. What it does wrong is told by its environment
(`FAKE_*`, for the whole process) or by the request's JSON body (for one call).
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = os.environ.get("FAKE_NAME", "fake")
ADAPTERS: dict[str, str] = {}
COUNT = itertools.count(1)


def wait_for(file: str | None) -> None:
    """Wait until a file is there, or its folder has gone with the test that made it."""
    while file and not os.path.exists(file) and os.path.exists(os.path.dirname(file)):
        time.sleep(0.02)


class FakeContainerHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._whole(200 if os.environ.get("FAKE_PING", "200") == "200" else 500, b"")

    def do_DELETE(self) -> None:
        known = ADAPTERS.pop(self.path.removeprefix("/adapters/"), None)
        self._whole(404 if known is None else 200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/adapters":
            given = json.loads(body)
            if "FAKE_NO_ADAPTERS" in os.environ:
                self._whole(400, b"this base takes no adapters")
                return
            ADAPTERS[given["name"]] = given["src"]
            self._whole(200, b"")
            return
        if next(COUNT) % int(os.environ.get("FAKE_ERROR_EVERY", "1000000000")) == 0:
            self._whole(500, b"one in so many fails")
            return
        order = json.loads(body) if body.startswith(b"{") else {}
        time.sleep(order.get("sleep", 0))
        wait_for(order.get("wait_for"))
        if order.get("exit"):
            os.kill(os.getpid(), signal.SIGKILL)
        if order.get("chunks"):
            self._stream(order)
        else:
            seen = {name.lower(): value for name, value in self.headers.items()}
            answer = {"name": NAME, "pid": os.getpid(), "headers": seen, "body": body.decode("latin-1")}
            answer["environment"] = dict(os.environ)
            answer["adapters"] = ADAPTERS
            status = order.get("status", 200)
            reply = order["reply"].encode() if "reply" in order else json.dumps(answer).encode()
            self._whole(status, reply)

    def _whole(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", f"name={NAME}")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, order: dict) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for index in range(order["chunks"]):
            data = f"chunk {index}\n".encode()
            try:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
            except OSError:
                print(f"caller left at chunk {index}", flush=True)
                self.close_connection = True
                return
            if order.get("break_at") == index:
                self.connection.close()
                self.close_connection = True
                return
            time.sleep(order.get("pause", 0))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    print(f"{NAME} starting", flush=True)
    if "FAKE_CRASH" in os.environ:
        print("RuntimeError: the weights are damaged", file=sys.stderr, flush=True)
        sys.exit(3)
    if last_words := os.environ.get("FAKE_LAST_WORDS"):
        print(last_words, file=sys.stderr, flush=True)
        sys.exit(2)
    wait_for(os.environ.get("FAKE_START_FILE"))
    server = ThreadingHTTPServer(
        ("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), FakeContainerHandler
    )
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
