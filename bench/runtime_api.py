"""What a function's answer costs with our Runtime API server and with one on h11.

    python -m bench.runtime_api

Runs in the laptop cloud's environment. Each server has a client process of its own, which asks for work and
answers over 127.0.0.1 until it is stopped. Invocations alternate between the servers, and so does which of
them goes first, so that a busy moment hits both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any, Protocol

from bench import runtime_api_h11
from lambdas.runtime.streaming import RuntimeClient, StreamingReply
from local.cloud.lambda_service import runtime_api
from local.cloud.lambda_service.runtime_api import FunctionError, NextInvocation, RuntimeHandler

_EVENT = b'{"text":"' + b"b" * 2000 + b'"}'
_PIECE = b"data: " + b"a" * 200 + b"\n\n"
_PIECES = {"whole": 1, "streamed": 20}
_WARM_UP = 200


class Server(Protocol):
    """What both servers can do."""

    address: str

    async def start(self, handler: RuntimeHandler) -> None:
        """Listen."""

    def close(self) -> None:
        """Stop listening."""


class Caller:
    """Gives a runtime one invocation at a time and notes the seconds until the answer is whole."""

    def __init__(self) -> None:
        self._work: asyncio.Queue[NextInvocation] = asyncio.Queue()
        self._answered: asyncio.Queue[int] = asyncio.Queue()
        self._ready = asyncio.Event()

    async def invoke(self, number: int) -> float:
        """One invocation's seconds, from the call of an idle runtime to the end of its answer."""
        await self._ready.wait()
        self._ready.clear()
        began = time.perf_counter()
        deadline_ms = int((time.time() + 60) * 1000)
        self._work.put_nowait(NextInvocation(str(number), _EVENT, deadline_ms, "arn:aws:lambda", "Root=1"))
        size = await self._answered.get()
        seconds = time.perf_counter() - began
        assert size >= len(_PIECE), size
        return seconds

    async def next_invocation(self) -> NextInvocation:
        """The runtime is idle."""
        self._ready.set()
        return await self._work.get()

    async def answer(
        self, request_id: str, content_type: str, streaming: bool, body: AsyncIterator[bytes]
    ) -> None:
        """Take an answer."""
        self._answered.put_nowait(sum([len(piece) async for piece in body]))

    async def invocation_error(self, request_id: str, fault: FunctionError) -> None:
        """The client failed."""
        raise AssertionError(fault.body)

    async def init_error(self, fault: FunctionError) -> None:
        """The client could not start."""
        raise AssertionError(fault.body)


def answer_until_stopped(address: str, kind: str) -> None:
    """The client process: the product's own runtime for streams, a plain request for whole answers."""
    client = RuntimeClient(address)
    while True:
        _event, context = client.next_event()
        if kind == "streamed":
            body = iter([_PIECE] * _PIECES[kind])
            client.send_reply(context.aws_request_id, StreamingReply(200, {}, body))
        else:
            path = f"/2018-06-01/runtime/invocation/{context.aws_request_id}/response"
            client._connection.request("POST", path, {"host": address}, _PIECE)  # noqa: SLF001 - the same one
            client._connection.response().read()  # noqa: SLF001


async def measure(kind: str, count: int) -> dict[str, list[float]]:
    """The seconds of `count` invocations of each server."""
    servers: dict[str, Server] = {"ours": runtime_api.RuntimeServer(), "h11": runtime_api_h11.RuntimeServer()}
    callers, clients = {name: Caller() for name in servers}, []
    seconds: dict[str, list[float]] = {name: [] for name in servers}
    try:
        for name, server in servers.items():
            await server.start(callers[name])
            command = [sys.executable, "-m", "bench.runtime_api", "--answer", server.address, "--kind", kind]
            clients.append(await asyncio.create_subprocess_exec(*command))
        for number in range(-_WARM_UP, count):
            for name in servers if number % 2 else reversed(servers):
                taken = await callers[name].invoke(number)
                if number >= 0:
                    seconds[name].append(taken)
    finally:
        for client in clients:
            client.kill()
            await client.wait()
        for server in servers.values():
            server.close()
    return seconds


def rows(kind: str, seconds: dict[str, list[float]]) -> list[str]:
    """A table's rows: quartiles in milliseconds, and how the medians compare."""
    quartiles = {name: statistics.quantiles(taken, n=4) for name, taken in seconds.items()}
    lines = []
    for name, (low, median, high) in quartiles.items():
        ratio = median / quartiles["ours"][1]
        lines.append(
            f"| {kind} | {name} | {low * 1000:.3f} | {median * 1000:.3f} | {high * 1000:.3f} | {ratio:.2f} |"
        )
    return lines


def main() -> None:
    """Print a table, or be the client of one server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="invocations per server and kind")
    parser.add_argument("--kind", choices=list(_PIECES), default="whole", help=argparse.SUPPRESS)
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    given: Any = parser.parse_args()
    if given.answer:
        answer_until_stopped(given.answer, given.kind)
    print(f"Command: `python -m bench.runtime_api --count {given.count}`")
    print(
        f"Versions: Python {platform.python_version()}, h11 {version('h11')}; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n"
    )
    print("| answer | server | 1st quartile ms | median ms | 3rd quartile ms | median / ours |")
    print("|---|---|---|---|---|---|")
    for kind in _PIECES:
        print("\n".join(rows(kind, asyncio.run(measure(kind, given.count)))), flush=True)


if __name__ == "__main__":
    main()
