"""The Lambda Runtime API's server on h11, for `bench/runtime_api.py` to compare with the product's own.

It differs from `local/cloud/lambda_service/runtime_api.py` in the parsing alone.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import h11

from local.cloud.lambda_service.runtime_api import (
    FunctionError,
    NextInvocation,
    PayloadTooLargeError,
    RuntimeHandler,
)

_PREFIX = "/2018-06-01/runtime"
_ANSWER = re.compile(_PREFIX + r"/invocation/([^/]+)/(response|error)")
_HEAD_LIMIT = 256 * 1024
_PIECE_BYTES = 64 * 1024
_ACCEPTED = b'{"status":"OK"}'
_NOT_FOUND = b'{"errorMessage":"no such call","errorType":"NotFound"}'


class RuntimeServer:
    """The listening side of one process; `address` goes into its `AWS_LAMBDA_RUNTIME_API`."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None] | None] = set()
        self.address = ""

    async def start(self, handler: RuntimeHandler) -> None:
        """Listen on a free loopback port."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            self._connections.add(task)
            connection = _Connection(reader, writer)
            try:
                while (request := await connection.request()) is not None:
                    await _respond(handler, request, connection)
            except (ConnectionError, h11.ProtocolError):
                pass  # the process is gone; whoever watches it says so
            finally:
                self._connections.discard(task)
                writer.close()

        self._server = await asyncio.start_server(connected, "127.0.0.1", 0)
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


class _Connection:
    """HTTP/1.1 over one socket, one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT)

    async def request(self) -> h11.Request | None:
        """The next request's head; None when there will be no more."""
        if self._protocol.our_state is h11.DONE:
            self._protocol.start_next_cycle()
        event = await self._event()
        return event if isinstance(event, h11.Request) else None

    async def body(self) -> AsyncIterator[bytes]:
        """The body as it arrives; raises FunctionError when its trailers report an error."""
        try:
            while isinstance(event := await self._event(), h11.Data):
                yield bytes(event.data)
        except h11.RemoteProtocolError as error:
            raise ConnectionResetError("the runtime hung up in the middle of its answer") from error
        trailers = _fields(event.headers) if isinstance(event, h11.EndOfMessage) else {}
        if error_type := trailers.get("lambda-runtime-function-error-type"):
            raise FunctionError(error_type, _decoded(trailers.get("lambda-runtime-function-error-body", "")))

    async def until_disconnected(self, waiting: Coroutine[Any, Any, NextInvocation]) -> NextInvocation:
        """Wait for work, but only as long as the runtime holds the line."""
        await self._event()  # the end of `next`'s empty body
        work = asyncio.ensure_future(waiting)
        # A runtime sends nothing while it waits: a readable line here can only mean that it closed it.
        gone = asyncio.ensure_future(self._reader.read(1))
        try:
            done, _pending = await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work not in done:
                raise ConnectionResetError("the runtime hung up while waiting for work")
            return work.result()
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def send(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
        """A whole reply in one write: two would wait for each other's acknowledgement."""
        headers = [("Content-Type", "application/json"), *fields, ("Content-Length", str(len(body)))]
        events = (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        self._writer.write(b"".join(self._protocol.send(event) or b"" for event in events))
        await self._writer.drain()

    async def _event(self) -> Any:
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            self._protocol.receive_data(await self._reader.read(_PIECE_BYTES))
        return event


async def _respond(handler: RuntimeHandler, request: h11.Request, connection: _Connection) -> None:
    method, path = request.method, request.target.decode("latin-1").partition("?")[0]
    if method == b"GET" and path == f"{_PREFIX}/invocation/next":
        await _send_next(connection, await connection.until_disconnected(handler.next_invocation()))
        return
    answer = _ANSWER.fullmatch(path)
    headers, body = _fields(request.headers), connection.body()
    status, reply = 202, _ACCEPTED
    try:
        if method != b"POST":
            status, reply = 404, _NOT_FOUND
        elif answer and answer[2] == "response":
            streaming = headers.get("lambda-runtime-function-response-mode") == "streaming"
            content_type = headers.get("content-type", "application/json")
            await handler.answer(answer[1], content_type, streaming, body)
        elif answer:
            await handler.invocation_error(answer[1], await _fault(headers, body))
        elif path == f"{_PREFIX}/init/error":
            await handler.init_error(await _fault(headers, body))
        else:
            status, reply = 404, _NOT_FOUND
    except PayloadTooLargeError:
        status, reply = 413, b'{"errorMessage":"payload too large","errorType":"RequestEntityTooLarge"}'
    except KeyError:
        status, reply = 400, b'{"errorMessage":"unknown request id","errorType":"InvalidRequestID"}'
    async for _rest in body:
        pass  # what a refused call had not read yet, so that the connection can be used again
    await connection.send(status, [], reply)


async def _send_next(connection: _Connection, invocation: NextInvocation) -> None:
    fields = [
        ("Lambda-Runtime-Aws-Request-Id", invocation.request_id),
        ("Lambda-Runtime-Deadline-Ms", str(invocation.deadline_ms)),
        ("Lambda-Runtime-Invoked-Function-Arn", invocation.function_arn),
        ("Lambda-Runtime-Trace-Id", invocation.trace_id),
    ]
    await connection.send(200, fields, invocation.payload)


def _fields(headers: Any) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


async def _fault(headers: dict[str, str], body: AsyncIterator[bytes]) -> FunctionError:
    text = b"".join([piece async for piece in body]).decode("utf-8", "replace")
    return FunctionError(headers.get("lambda-runtime-function-error-type", "Unhandled"), text)


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except ValueError:
        return text
