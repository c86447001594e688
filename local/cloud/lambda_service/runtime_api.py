"""The HTTP side of the Lambda Runtime API: one small HTTP/1.1 server per function process.

A server of its own per process tells us who is calling, since the API's paths do not. Knows nothing of pools
or processes: what the runtime asks for and answers goes to a `RuntimeHandler`. It parses HTTP itself, as the
same server on h11 takes over a third longer per invocation: bench/results/runtime_api.md.
See https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html and the streaming extension in
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

_PREFIX = "/2018-06-01/runtime"
_ANSWER = re.compile(_PREFIX + r"/invocation/([^/]+)/(response|error)")
_HEAD_LIMIT = 256 * 1024
_PIECE_BYTES = 64 * 1024
_ACCEPTED = b'{"status":"OK"}'


@dataclass(frozen=True)
class NextInvocation:
    """What `GET /invocation/next` hands to the runtime."""

    request_id: str
    payload: bytes
    deadline_ms: int
    function_arn: str
    trace_id: str


class FunctionError(Exception):
    """The runtime reported a failure: error type and the error object's JSON text."""

    def __init__(self, error_type: str, body: str) -> None:
        super().__init__(error_type)
        self.error_type = error_type
        self.body = body


class PayloadTooLargeError(Exception):
    """A whole answer is larger than Lambda's limit."""


class RuntimeHandler(Protocol):
    """The other side of the Runtime API."""

    async def next_invocation(self) -> NextInvocation:
        """Wait for work."""

    async def answer(
        self, request_id: str, content_type: str, streaming: bool, body: AsyncIterator[bytes]
    ) -> None:
        """Take an answer. The iterator raises FunctionError when the function fails midway; raise
        PayloadTooLargeError to refuse it, KeyError for a request that is not running."""

    async def invocation_error(self, request_id: str, fault: FunctionError) -> None:
        """The function failed."""

    async def init_error(self, fault: FunctionError) -> None:
        """The function's code could not be loaded."""


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    headers: dict[str, str]


class RuntimeServer:
    """The listening side of one process; `address` goes into its `AWS_LAMBDA_RUNTIME_API`."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None] | None] = set()
        self.address = ""

    async def start(self, handler: RuntimeHandler) -> None:
        """Listen on a free loopback port."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = asyncio.current_task()
            self._connections.add(connection)
            try:
                while (request := await _read_head(reader)) is not None:
                    await _respond(handler, request, reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the process is gone; whoever watches it says so
            finally:
                self._connections.discard(connection)
                writer.close()

        self._server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=_HEAD_LIMIT)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    async def drained(self, seconds: float) -> None:
        """After the process ended: wait until all that it had still written was taken."""
        await asyncio.sleep(0)
        open_connections = [task for task in self._connections if task]
        if open_connections:
            await asyncio.wait(open_connections, timeout=seconds)

    def close(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.close()


async def _read_head(reader: asyncio.StreamReader) -> _Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _version = first.split(" ", 2)
    headers = _fields(lines)
    return _Request(method, path.partition("?")[0], headers)


def _fields(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _colon, value in pairs}


async def _respond(
    handler: RuntimeHandler, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if request.method == "GET" and request.path == f"{_PREFIX}/invocation/next":
        await _send_next(writer, await _until_disconnected(handler.next_invocation(), reader))
        return
    answer = _ANSWER.fullmatch(request.path)
    body = _body(request, reader)
    status, reply = 202, _ACCEPTED
    try:
        if request.method != "POST":
            status, reply = 404, b'{"errorMessage":"no such call","errorType":"NotFound"}'
        elif answer and answer[2] == "response":
            streaming = request.headers.get("lambda-runtime-function-response-mode") == "streaming"
            content_type = request.headers.get("content-type", "application/json")
            await handler.answer(answer[1], content_type, streaming, body)
        elif answer:
            await handler.invocation_error(answer[1], await _fault(request, body))
        elif request.path == f"{_PREFIX}/init/error":
            await handler.init_error(await _fault(request, body))
        else:
            status, reply = 404, b'{"errorMessage":"no such call","errorType":"NotFound"}'
    except PayloadTooLargeError:
        status, reply = 413, b'{"errorMessage":"payload too large","errorType":"RequestEntityTooLarge"}'
    except KeyError:
        status, reply = 400, b'{"errorMessage":"unknown request id","errorType":"InvalidRequestID"}'
    async for _rest in body:
        pass  # what a refused call had not read yet, so that the connection can be used again
    await _send(writer, status, [("Content-Type", "application/json")], reply)


async def _until_disconnected(
    waiting: Coroutine[Any, Any, NextInvocation], reader: asyncio.StreamReader
) -> NextInvocation:
    """Wait for work, but only as long as the runtime holds the line."""
    work = asyncio.ensure_future(waiting)
    # A runtime sends nothing while it waits: a readable line here can only mean that it closed it.
    gone = asyncio.ensure_future(reader.read(1))
    try:
        done, _pending = await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work not in done:
            raise ConnectionResetError("the runtime hung up while waiting for work")
        return work.result()
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _send_next(writer: asyncio.StreamWriter, invocation: NextInvocation) -> None:
    fields = [
        ("Content-Type", "application/json"),
        ("Lambda-Runtime-Aws-Request-Id", invocation.request_id),
        ("Lambda-Runtime-Deadline-Ms", str(invocation.deadline_ms)),
        ("Lambda-Runtime-Invoked-Function-Arn", invocation.function_arn),
        ("Lambda-Runtime-Trace-Id", invocation.trace_id),
    ]
    await _send(writer, 200, fields, invocation.payload)


async def _send(
    writer: asyncio.StreamWriter, status: int, fields: list[tuple[str, str]], body: bytes
) -> None:
    reason = {200: "OK", 202: "Accepted", 400: "Bad Request", 404: "Not Found", 413: "Too Large"}[status]
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields)]
    lines.append(f"Content-Length: {len(body)}")
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
    await writer.drain()


async def _fault(request: _Request, body: AsyncIterator[bytes]) -> FunctionError:
    text = b"".join([piece async for piece in body]).decode("utf-8", "replace")
    return FunctionError(request.headers.get("lambda-runtime-function-error-type", "Unhandled"), text)


async def _body(request: _Request, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The body as it arrives; raises FunctionError when its trailers report an error."""
    if request.headers.get("transfer-encoding", "").lower() != "chunked":
        left = int(request.headers.get("content-length", "0"))
        while left:
            piece = await reader.read(min(left, _PIECE_BYTES))
            if not piece:
                raise ConnectionResetError("the runtime hung up in the middle of its answer")
            left -= len(piece)
            yield piece
        return
    while size := int((await _line(reader)).partition(";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    lines = []
    while line := await _line(reader):
        lines.append(line)
    trailers = _fields(lines)
    if error_type := trailers.get("lambda-runtime-function-error-type"):
        raise FunctionError(error_type, _decoded(trailers.get("lambda-runtime-function-error-body", "")))


async def _line(reader: asyncio.StreamReader) -> str:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the runtime hung up in the middle of its answer")
    return line.decode("latin-1").strip()


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except ValueError:
        return text
