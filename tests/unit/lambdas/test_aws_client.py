"""The small AWS client: its signatures beside the SDK's, its connections against servers that misbehave."""

from __future__ import annotations

import datetime
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as SdkCredentials
from hypothesis import given
from hypothesis import strategies as st

from lambdas.aws import client as aws
from lambdas.aws.dynamodb import ConditionFailedError, DynamoDB, DynamoError
from lambdas.aws.sagemaker import InvalidEventStreamError, messages
from lambdas.aws.signing import Credentials, CredentialScope, sign
from tests.support import fake_model_endpoint

SCOPE = CredentialScope("eu-central-1", "sagemaker")
NOW = datetime.datetime(2026, 11, 3, 4, 5, 6, tzinfo=datetime.UTC)
HEADER_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126)).map(str.strip)


def sdk_signature(path: str, headers: dict[str, str], body: bytes, token: str | None) -> str:
    """The SDK's `authorization` header for the same request at the same time."""
    request = AWSRequest("POST", f"https://{headers['host']}{path}", headers=dict(headers), data=body)
    signer = SigV4Auth(SdkCredentials("AKID", "secret", token), SCOPE.service, SCOPE.region)
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        signer.add_auth(request)
    return str(request.headers["Authorization"])


@given(
    st.binary(max_size=200),
    st.dictionaries(
        st.sampled_from(["content-type", "x-amz-target", "x-amzn-sagemaker-custom-attributes"]), HEADER_VALUES
    ),
    st.sampled_from(["/", "/endpoints/evergreen-dev/invocations-response-stream", "/a%20b/c"]),
    st.sampled_from([None, "token"]),
)
def test_signatures_are_the_sdks(body: bytes, headers: dict[str, str], path: str, token: str | None) -> None:
    headers = {**headers, "host": "runtime.sagemaker.eu-central-1.amazonaws.com"}
    ours = sign("POST", path, headers, body, Credentials("AKID", "secret", token), SCOPE, NOW.timestamp())
    assert ours["authorization"] == sdk_signature(path, headers, body, token)


@pytest.mark.parametrize("path", ["/bucket/transcripts/day%3D2026-11-22/a.jsonl", "/bucket/a%20b"])
def test_signatures_for_s3_are_the_sdks(path: str) -> None:
    body = b"{}\n"
    headers = {
        "host": "s3.eu-central-1.amazonaws.com",
        "content-type": "application/x-ndjson",
        "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
    }
    request = AWSRequest("PUT", f"https://{headers['host']}{path}", headers=dict(headers), data=body)
    # The SDK hashes what it sends over a plain connection only, or when told to.
    request.context["client_config"] = Config(s3={"payload_signing_enabled": True})
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        S3SigV4Auth(SdkCredentials("AKID", "secret"), "s3", "eu-central-1").add_auth(request)
    ours = sign(
        "PUT",
        path,
        headers,
        body,
        Credentials("AKID", "secret"),
        CredentialScope("eu-central-1", "s3"),
        NOW.timestamp(),
    )
    assert ours["authorization"] == request.headers["Authorization"]


# --- connections -----------------------------------------------------------------------------------------


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that treats every connection as `answer` does, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


@pytest.fixture
def client_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., aws.Client]:
    def make(url: str, read_timeout: float = 60) -> aws.Client:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
        return aws.Client("sagemaker-runtime", "runtime.sagemaker", "sagemaker", 60, read_timeout)

    return make


Make = Callable[..., aws.Client]


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65_536)
    return data


def test_a_connection_the_server_has_closed_is_replaced(client_of: Make) -> None:
    closed = threading.Semaphore(0)

    def once(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        connection.close()
        closed.release()

    with server(once) as url:
        client = client_of(url)
        for _ in range(3):
            assert client.send("POST", "/", {}, b"").json() == {}
            assert closed.acquire(timeout=60)


def test_no_server_is_not_reached(client_of: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(aws.ConnectionFailedError):
        client_of(url).send("POST", "/", {}, b"")


def test_a_server_that_hangs_up_is_not_reached(client_of: Make) -> None:
    with server(lambda connection: connection.close()) as url, pytest.raises(aws.ConnectionFailedError):
        client_of(url).send("POST", "/", {}, b"")


def test_a_server_that_says_nothing_is_silent(client_of: Make) -> None:
    with server(lambda connection: None) as url, pytest.raises(aws.ReadTimeoutError):
        client_of(url, read_timeout=0.05).send("POST", "/", {}, b"")


def silent_after_a_piece(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    threading.Event().wait(60)


def test_silence_in_the_middle_is_told_from_the_end(client_of: Make) -> None:
    with server(silent_after_a_piece) as url:
        # Long enough for a loaded machine to send the first piece, which must not count as silence.
        pieces = iter(client_of(url, read_timeout=2).send("POST", "/", {}, b""))
        assert next(pieces) == b"ab"
        with pytest.raises(aws.ReadTimeoutError):
            next(pieces)


@pytest.mark.parametrize(
    "head",
    [b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"Content-Length: 9\r\n\r\nab"],
    ids=["chunked", "by length"],
)
def test_a_reply_that_breaks_off_is_told_from_the_end(client_of: Make, head: bytes) -> None:
    def half(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head)
        connection.close()

    with server(half) as url, pytest.raises(aws.StreamInterruptedError):
        list(client_of(url).send("POST", "/", {}, b""))


# --- DynamoDB --------------------------------------------------------------------------------------------


def scripted(answers: list[tuple[int, bytes]]) -> Callable[[socket.socket], None]:
    """Answers in order, one per request, over any number of connections."""
    lock = threading.Lock()

    def answer(connection: socket.socket) -> None:
        while True:
            read_request(connection)
            with lock:
                status, body = answers.pop(0)
            connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    return answer


THROTTLED = (400, b'{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}')


def dynamodb(url: str, monkeypatch: pytest.MonkeyPatch) -> DynamoDB:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
    return DynamoDB()


def test_a_throttled_call_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(scripted([THROTTLED, (200, b'{"Item":{}}')])) as url:
        assert dynamodb(url, monkeypatch).call("GetItem", TableName="t") == {"Item": {}}


def test_throttling_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [THROTTLED] * 10
    with server(scripted(answers)) as url:
        with pytest.raises(DynamoError, match="ProvisionedThroughputExceededException"):
            dynamodb(url, monkeypatch).call("GetItem", TableName="t")
    assert len(answers) == 7


def test_a_condition_that_fails_has_a_type_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = b'{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}'
    with server(scripted([(400, refusal)])) as url, pytest.raises(ConditionFailedError):
        dynamodb(url, monkeypatch).call("PutItem", TableName="t")


@pytest.mark.parametrize(("operation", "attempts"), [("GetItem", 3), ("PutItem", 3), ("UpdateItem", 1)])
def test_what_may_have_been_done_is_not_done_twice(
    monkeypatch: pytest.MonkeyPatch, operation: str, attempts: int
) -> None:
    seen = threading.Semaphore(0)

    def hang_up(connection: socket.socket) -> None:
        read_request(connection)
        seen.release()
        connection.close()

    with server(hang_up) as url, pytest.raises(aws.ConnectionFailedError):
        dynamodb(url, monkeypatch).call(operation, TableName="t")
    assert [seen.acquire(blocking=False) for _ in range(attempts + 1)] == [True] * attempts + [False]


# --- event stream ----------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 400))
def test_messages_are_found_wherever_the_bytes_are_cut(payloads: list[bytes], size: int) -> None:
    data = b"".join(fake_model_endpoint.payload_part(payload) for payload in payloads)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    found = list(messages(pieces))
    assert [message.payload for message in found] == payloads
    assert all(message.headers[":event-type"] == "PayloadPart" for message in found)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_byte_never_passes(place: int, change: int) -> None:
    data = bytearray(fake_model_endpoint.payload_part(b"hello"))
    data[place % len(data)] ^= change
    with pytest.raises(InvalidEventStreamError):
        list(messages([bytes(data)]))


def test_a_stream_that_ends_within_a_message_is_an_error() -> None:
    data = fake_model_endpoint.payload_part(b"hello")
    with pytest.raises(InvalidEventStreamError):
        list(messages([data, data[:-1]]))
