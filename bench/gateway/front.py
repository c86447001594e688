"""The two functions behind an HTTP server and nothing else: what a peer is, without the emulator of a cloud.

A process of its own: `python -m bench.gateway.front PORT STUB_URL BUNDLES`, the last a JSON object of the
functions' bundles by name. It serves HTTP with the emulator's server, asks the authorizer about every
request, and hands the request to the inference function through the Lambda Runtime API, as API Gateway and
Lambda would.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.gateway.function import Subject, event, process_variables, subjects
from local.cloud.http_server import serve_until_stopped
from local.cloud.lambda_service.runtime_api import FunctionError, NextInvocation, RuntimeServer

_PRELUDE_END = b"\0" * 8
_END = None


class Function:
    """A function's process; invocations wait for their turn."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._work: asyncio.Queue[NextInvocation] = asyncio.Queue()
        self._answers: dict[str, asyncio.Queue[bytes | None]] = {}
        self._server = RuntimeServer()
        self._count = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, url: str, bundles: dict[str, str]) -> None:
        """Start the process; it asks for work when it is ready."""
        await self._server.start(self)
        environment = process_variables(
            self._subject, url, bundles[self._subject.function], self._server.address
        )
        self._process = await asyncio.create_subprocess_exec(
            *self._subject.command, env=environment, stdout=asyncio.subprocess.DEVNULL, cwd="/"
        )

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()

    async def invoke(self, given: dict[str, Any]) -> AsyncIterator[bytes]:
        """The pieces of the answer."""
        self._count += 1
        number, pieces = str(self._count), asyncio.Queue[bytes | None]()
        self._answers[number] = pieces
        deadline, payload = int((time.time() + 60) * 1000), json.dumps(given).encode()
        self._work.put_nowait(NextInvocation(number, payload, deadline, "arn:aws:lambda", "Root=1"))
        while (piece := await pieces.get()) is not _END:
            yield piece

    async def next_invocation(self) -> NextInvocation:
        """See RuntimeHandler."""
        return await self._work.get()

    async def answer(
        self, request_id: str, _content_type: str, _streaming: bool, body: AsyncIterator[bytes]
    ) -> None:
        """See RuntimeHandler."""
        pieces = self._answers.pop(request_id)
        async for piece in body:
            pieces.put_nowait(piece)
        pieces.put_nowait(_END)

    async def invocation_error(self, request_id: str, fault: FunctionError) -> None:
        """See RuntimeHandler."""
        self._answers.pop(request_id).put_nowait(_END)

    async def init_error(self, fault: FunctionError) -> None:
        """See RuntimeHandler."""
        raise SystemExit(fault.body)


class Front:
    """The ASGI application."""

    def __init__(self, url: str, bundles: dict[str, str]) -> None:
        found = subjects(Path(os.environ["EVERGREEN_BENCH_PYTHON"]), None)
        self._inference, self._authorizer = Function(found["streamed"]), Function(found["authorizer"])
        self._authorizer_event = found["authorizer"].event
        self._url, self._bundles = url, bundles

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one request, or live."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        shown = {"headers": headers, "multiValueHeaders": {name: [value] for name, value in headers.items()}}
        admitted = b"".join(
            [piece async for piece in self._authorizer.invoke(self._authorizer_event | shown)]
        )
        given = event(stream=False, limited=False) | shown | {"body": body.decode()}
        given["requestContext"]["authorizer"] = json.loads(admitted)["context"]
        head, has_begun = b"", False
        async for piece in self._inference.invoke(given):
            if not has_begun:
                head += piece
                prelude, found, piece = head.partition(_PRELUDE_END)
                if not found:
                    continue
                has_begun = True
                start = json.loads(prelude)
                lines = [(name.encode(), value.encode()) for name, value in start["headers"].items()]
                await send({"type": "http.response.start", "status": start["statusCode"], "headers": lines})
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        for function in (self._inference, self._authorizer):
            await function.start(self._url, self._bundles)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for function in (self._inference, self._authorizer):
            function.stop()
        await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    asyncio.run(
        serve_until_stopped(
            Front(sys.argv[2], json.loads(sys.argv[3])), socket.create_server(("127.0.0.1", int(sys.argv[1])))
        )
    )
