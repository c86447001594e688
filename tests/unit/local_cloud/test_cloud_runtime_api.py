"""The Lambda Runtime API as a runtime sees it: plain HTTP against a recording handler."""

from __future__ import annotations

import asyncio
import base64
import http.client
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from local.cloud.lambda_service.runtime_api import (
    FunctionError,
    NextInvocation,
    PayloadTooLargeError,
    RuntimeServer,
)

NEXT = "/2018-06-01/runtime/invocation/next"
RESPONSE = "/2018-06-01/runtime/invocation/one/response"


class Recorder:
    """Hands out one invocation and notes what comes back."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.streaming: bool | None = None
        self.content_type = ""
        self.faults: list[FunctionError] = []
        self.refuse = False

    async def next_invocation(self) -> NextInvocation:
        return NextInvocation("one", b'{"a":1}', 1_700_000_000_000, "arn:f", "Root=1-2-3")

    async def answer(
        self, request_id: str, content_type: str, streaming: bool, body: AsyncIterator[bytes]
    ) -> None:
        if request_id != "one":
            raise KeyError(request_id)
        if self.refuse:
            raise PayloadTooLargeError
        self.content_type, self.streaming = content_type, streaming
        try:
            async for piece in body:
                self.pieces.append(piece)
        except FunctionError as fault:
            self.faults.append(fault)

    async def invocation_error(self, request_id: str, fault: FunctionError) -> None:
        self.faults.append(fault)

    async def init_error(self, fault: FunctionError) -> None:
        self.faults.append(fault)


Talk = Callable[[http.client.HTTPConnection], Any]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def talk(recorder: Recorder, conversation: Talk) -> Any:
    """Serve the recorder for as long as a conversation on another thread lasts."""

    async def run() -> Any:
        server = RuntimeServer()
        await server.start(recorder)
        connection = http.client.HTTPConnection(server.address, timeout=30)
        try:
            return await asyncio.to_thread(conversation, connection)
        finally:
            connection.close()
            server.close()

    return asyncio.run(run())


def send(method: str, path: str, **arguments: Any) -> Talk:
    def conversation(connection: http.client.HTTPConnection) -> tuple[int, Any, bytes]:
        connection.request(method, path, **arguments)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()

    return conversation


def test_next_carries_the_event_and_its_headers(recorder: Recorder) -> None:
    status, headers, body = talk(recorder, send("GET", NEXT))

    assert (status, body) == (200, b'{"a":1}')
    assert headers["Lambda-Runtime-Aws-Request-Id"] == "one"
    assert headers["Lambda-Runtime-Deadline-Ms"] == "1700000000000"
    assert headers["Lambda-Runtime-Invoked-Function-Arn"] == "arn:f"
    assert headers["Lambda-Runtime-Trace-Id"] == "Root=1-2-3"


def test_a_whole_answer_is_taken_as_it_is(recorder: Recorder) -> None:
    status, _headers, _body = talk(recorder, send("POST", RESPONSE, body=b'"hi"'))

    assert status == 202
    assert (recorder.pieces, recorder.streaming) == ([b'"hi"'], False)


def test_a_streamed_answer_arrives_in_the_pieces_it_was_written_in(recorder: Recorder) -> None:
    headers = {"Lambda-Runtime-Function-Response-Mode": "streaming", "Content-Type": "text/event-stream"}
    body = iter([b"first", b"second"])

    status, *_rest = talk(recorder, send("POST", RESPONSE, body=body, headers=headers, encode_chunked=True))

    assert status == 202
    assert (recorder.pieces, recorder.streaming) == ([b"first", b"second"], True)
    assert recorder.content_type == "text/event-stream"


def test_error_trailers_become_a_fault(recorder: Recorder) -> None:
    error = base64.b64encode(b'{"errorMessage":"half way"}').decode()
    raw = (
        f"POST {RESPONSE} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        "Lambda-Runtime-Function-Response-Mode: streaming\r\n"
        "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"
        "5\r\nhello\r\n0\r\nLambda-Runtime-Function-Error-Type: ModelGone\r\n"
        f"Lambda-Runtime-Function-Error-Body: {error}\r\n\r\n"
    )

    def conversation(connection: http.client.HTTPConnection) -> bytes:
        connection.connect()
        connection.sock.sendall(raw.encode())
        return connection.sock.recv(4096)

    assert talk(recorder, conversation).startswith(b"HTTP/1.1 202")
    (fault,) = recorder.faults
    assert (fault.error_type, fault.body) == ("ModelGone", '{"errorMessage":"half way"}')
    assert recorder.pieces == [b"hello"]


def test_a_body_that_breaks_off_is_not_an_answer(recorder: Recorder) -> None:
    ended: list[str] = []

    class Watching(Recorder):
        async def answer(self, request_id: str, content_type: str, streaming: bool, body: Any) -> None:
            try:
                await super().answer(request_id, content_type, streaming, body)
                ended.append("well")
            except (ConnectionError, asyncio.IncompleteReadError):
                ended.append("broken")
                raise

    def conversation(connection: http.client.HTTPConnection) -> None:
        connection.connect()
        head = f"POST {RESPONSE} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"
        connection.sock.sendall(head.encode())
        connection.sock.shutdown(1)
        assert connection.sock.recv(4096) == b""

    talk(Watching(), conversation)

    assert ended == ["broken"]


def test_errors_are_passed_on_with_their_type(recorder: Recorder) -> None:
    headers = {"Lambda-Runtime-Function-Error-Type": "Runtime.ImportModuleError"}
    path = "/2018-06-01/runtime/init/error"

    status, *_rest = talk(recorder, send("POST", path, body=b"{}", headers=headers))

    assert status == 202
    assert recorder.faults[0].error_type == "Runtime.ImportModuleError"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/2018-06-01/runtime/invocation/other/response", 400),
        ("POST", "/2018-06-01/elsewhere", 404),
        ("GET", RESPONSE, 404),
    ],
)
def test_wrong_calls_are_refused(recorder: Recorder, method: str, path: str, status: int) -> None:
    assert talk(recorder, send(method, path))[0] == status


def test_a_refused_answer_leaves_the_connection_usable(recorder: Recorder) -> None:
    recorder.refuse = True

    def conversation(connection: http.client.HTTPConnection) -> list[int]:
        statuses = []
        for method, path, body in (("POST", RESPONSE, b"x" * 100_000), ("GET", NEXT, None)):
            connection.request(method, path, body=body)
            reply = connection.getresponse()
            reply.read()
            statuses.append(reply.status)
        return statuses

    assert talk(recorder, conversation) == [413, 200]
