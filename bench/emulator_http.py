"""Processor time of a request to the emulator's HTTP server (uvicorn), beside Hypercorn, the emulator's own.

    python -m bench.emulator_http [--requests 3000]

Runs in the laptop cloud's environment. Each server is a process; requests go to one and the other in turn,
over a kept-alive connection each: some with a whole reply, some with a reply of twenty pieces.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import socket
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import Any

from bench.common import command_line, machine, spread
from bench.gateway.processes import cpu_clock
from local.cloud.http_server import serve_until_stopped

SERVERS = ("uvicorn", "hypercorn")
KINDS = {"whole": 1, "20 pieces": 20}
ROUNDS = 5
_PIECE = b'{"TableName":"records","Item":{}}' * 8


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Reads the body, then answers in as many pieces as the path says."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": f"{(await receive())['type']}.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    count = int(scope["path"].strip("/") or 1)
    headers = [(b"content-type", b"application/json"), (b"x-amzn-requestid", b"0")]
    if count == 1:
        headers.append((b"content-length", b"%d" % len(_PIECE)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(count):
        await send({"type": "http.response.body", "body": _PIECE, "more_body": number + 1 < count})


def serve(name: str, descriptor: int) -> None:
    """The server process, on a socket that its parent listens on."""
    if name == "uvicorn":
        asyncio.run(serve_until_stopped(application, socket.socket(fileno=descriptor)))
        return
    config: Any = import_module("hypercorn.config").Config()
    config.bind, config.keep_alive_timeout = [f"fd://{descriptor}"], 75
    config.keep_alive_max_requests = 1_000_000
    asyncio.run(import_module("hypercorn.asyncio").serve(application, config))


class Client:
    """A server's process and one connection to it."""

    def __init__(self, name: str) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        words = [sys.executable, "-m", "bench.emulator_http", "--serve", name, str(listener.fileno())]
        self.process = subprocess.Popen(words, pass_fds=[listener.fileno()])
        self._connection = socket.create_connection(listener.getsockname())
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.close()

    def ask(self, pieces: int) -> None:
        """One request, its reply read whole."""
        body = b'{"TableName":"records","Key":{"pk":{"S":"a"}}}'
        head = (
            f"POST /{pieces} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-amz-json-1.0\r\n"
            f"x-amz-target: DynamoDB_20120810.GetItem\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._connection.sendall(head.encode() + body)
        wanted, end = len(_PIECE) * pieces, b"" if pieces == 1 else b"0\r\n\r\n"
        received = b""
        while len(received) < wanted or not received.endswith(end):
            piece = self._connection.recv(65_536)
            if not piece:
                raise RuntimeError("the server hung up")
            received += piece


def measure(requests: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of processor time per request, by server and kind of reply; one value per round."""
    seen: dict[tuple[str, str], list[float]] = {(name, kind): [] for kind in KINDS for name in SERVERS}
    clients = {name: Client(name) for name in SERVERS}
    try:
        time.sleep(1)
        for turn in range(ROUNDS + 1):
            for (name, kind), figures in seen.items():
                before = cpu_clock(clients[name].process.pid)
                for _ in range(requests // ROUNDS):
                    clients[name].ask(KINDS[kind])
                if turn:
                    used = cpu_clock(clients[name].process.pid) - before
                    figures.append(1000 * used / (requests // ROUNDS))
    finally:
        for client in clients.values():
            client.process.kill()
            client.process.wait()
    return seen


def main() -> int:
    """Prints a Markdown table, or is a server."""
    parser = argparse.ArgumentParser(prog="python -m bench.emulator_http", description=__doc__)
    parser.add_argument("--requests", type=int, default=3000, help="requests per server and kind")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], int(options.serve[1]))
        return 0
    print(f"`{command_line()}`: {machine()}, Python {platform.python_version()}, ", end="")
    for name in ("uvicorn", "httptools", "hypercorn", "h11"):
        print(f"{name} {version(name)}", end="\n\n" if name == "h11" else ", ")
    print("| reply | server | processor time per request, ms |\n|---|---|---|")
    for (name, kind), figures in measure(options.requests).items():
        all_of_them = spread(figures)
        print(
            f"| {kind} | {name} | {all_of_them['median']:.3f} "
            f"({all_of_them['low']:.3f} to {all_of_them['high']:.3f}) |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
