"""The streaming runtime against a Runtime API that is really served over HTTP."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lambdas.runtime.streaming import Context, RuntimeClient, StreamingReply, serve_one
from tests.support import fake_runtime_api
from tests.support.fake_runtime_api import WAIT_SECONDS, FakeRuntimeApi

ROOT = Path(__file__).resolve().parents[3]
BOOTSTRAP = ROOT / "lambdas/runtime/stream_bootstrap"


@pytest.fixture
def api() -> Iterator[FakeRuntimeApi]:
    with fake_runtime_api.running() as running:
        yield running


@pytest.fixture
def client(api: FakeRuntimeApi) -> Iterator[RuntimeClient]:
    client = RuntimeClient(api.address)
    yield client
    client.reset()


def split(body: bytes) -> tuple[dict[str, Any], bytes]:
    """Prelude and body of a streamed reply."""
    prelude, _, rest = body.partition(b"\0" * 8)
    return json.loads(prelude), rest


def test_a_reply_has_prelude_separator_and_body(api: FakeRuntimeApi, client: RuntimeClient) -> None:
    def handler(event: dict[str, Any], context: Context) -> StreamingReply:
        return StreamingReply(201, {"x-a": "b"}, iter([b"one ", b"", b"two"]))

    api.send("r1", {})
    serve_one(client, handler)
    posted = api.receive()

    assert posted.path == "invocation/r1/response"
    assert posted.headers["lambda-runtime-function-response-mode"] == "streaming"
    assert posted.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
    prelude, body = split(posted.body)
    assert prelude == {"statusCode": 201, "headers": {"x-a": "b"}, "cookies": []}
    assert body == b"one two"
    assert posted.trailers == {}


def test_each_piece_arrives_before_the_next_one_is_made(api: FakeRuntimeApi, client: RuntimeClient) -> None:
    arrived = threading.Semaphore(0)
    api.on_chunk = lambda number: arrived.release()

    def pieces() -> Iterator[bytes]:
        for number in range(3):
            # The prelude or the piece before: a runtime that collects would wait here for ever.
            assert arrived.acquire(timeout=WAIT_SECONDS)
            yield b"%d" % number

    api.send("r1", {})
    serve_one(client, lambda event, context: StreamingReply(200, {}, pieces()))

    assert split(api.receive().body)[1] == b"012"


def test_the_context_carries_deadline_trace_and_arn(
    api: FakeRuntimeApi, client: RuntimeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Context, str | None, dict[str, Any]]] = []

    def handler(event: dict[str, Any], context: Context) -> StreamingReply:
        seen.append((context, os.environ.get("_X_AMZN_TRACE_ID"), event))
        return StreamingReply(200, {}, iter(()))

    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)
    api.send(
        "r1",
        {"a": 1},
        Lambda_Runtime_Deadline_Ms="4102444800000",
        Lambda_Runtime_Trace_Id="Root=1-a",
        Lambda_Runtime_Invoked_Function_Arn="arn:x",
    )
    api.send("r2", {})
    serve_one(client, handler)
    serve_one(client, handler)

    (first, first_trace, event), (second, second_trace, _) = seen
    assert (first.aws_request_id, first.invoked_function_arn, first.trace_id) == ("r1", "arn:x", "Root=1-a")
    assert first.get_remaining_time_in_millis() > 0
    assert first_trace == "Root=1-a"
    assert event == {"a": 1}
    # A request without a trace must not inherit the one before.
    assert second.trace_id is None
    assert second_trace is None


def test_the_connection_is_kept(api: FakeRuntimeApi, client: RuntimeClient) -> None:
    for number in range(3):
        api.send(f"r{number}", {})
        serve_one(client, lambda event, context: StreamingReply(200, {}, iter([b"x"])))

    assert len({api.receive().connection for _ in range(3)}) == 1


def test_a_failing_handler_posts_an_error_without_its_message(
    api: FakeRuntimeApi, client: RuntimeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    def handler(event: dict[str, Any], context: Context) -> StreamingReply:
        raise ValueError("the caller's secret words")

    api.send("r1", {})
    serve_one(client, handler)
    posted = api.receive()

    assert posted.path == "invocation/r1/error"
    assert posted.headers["lambda-runtime-function-error-type"] == "Runtime.ValueError"
    assert json.loads(posted.body)["errorType"] == "ValueError"
    assert "secret words" not in posted.body.decode() + capsys.readouterr().out


def test_a_failure_in_the_middle_ends_the_stream_with_trailers(
    api: FakeRuntimeApi, client: RuntimeClient
) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise KeyError("gone")

    afterwards = threading.Event()
    api.send("r1", {})
    serve_one(client, lambda event, context: StreamingReply(200, {}, pieces(), afterwards.set))
    posted = api.receive()

    assert split(posted.body)[1] == b"half"
    assert posted.trailers["lambda-runtime-function-error-type"] == "Runtime.KeyError"
    detail = json.loads(base64.b64decode(posted.trailers["lambda-runtime-function-error-body"]))
    assert detail["errorType"] == "KeyError"
    assert afterwards.is_set()


def test_a_receiver_that_leaves_closes_the_body_and_the_next_event_is_served(
    api: FakeRuntimeApi, client: RuntimeClient
) -> None:
    closed, afterwards = threading.Event(), threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
        finally:
            closed.set()

    api.hang_up_after = 2
    api.send("r1", {})
    serve_one(client, lambda event, context: StreamingReply(200, {}, endless(), afterwards.set))
    assert closed.is_set()
    assert afterwards.is_set()

    api.hang_up_after = None
    api.send("r2", {})
    serve_one(client, lambda event, context: StreamingReply(200, {}, iter([b"well"])))
    assert split(api.receive().body)[1] == b"well"


def test_work_after_the_reply_runs_when_the_reply_is_over_and_may_fail(
    api: FakeRuntimeApi, client: RuntimeClient
) -> None:
    posted_before: list[bool] = []

    def after() -> None:
        posted_before.append(api.receive().path == "invocation/r1/response")
        raise RuntimeError

    api.send("r1", {})
    api.send("r2", {})
    serve_one(client, lambda event, context: StreamingReply(200, {}, iter([b"x"]), after))
    serve_one(client, lambda event, context: StreamingReply(200, {}, iter([b"y"])))

    assert posted_before == [True]
    assert split(api.receive().body)[1] == b"y"


def start_bootstrap(api: FakeRuntimeApi, folder: Path, handler: str) -> subprocess.Popen[bytes]:
    """The real executable, as Lambda would start it: with the managed runtime's command as arguments.

    Another `python3` comes first on the path, as an image or a layer may have one.
    """
    other = folder / "bin" / "python3"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nexit 77\n")
    other.chmod(0o755)
    environment = {
        "PATH": f"{other.parent}:{os.environ['PATH']}",
        "LAMBDA_TASK_ROOT": str(ROOT),
        "PYTHONPATH": str(folder),
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "_HANDLER": handler,
    }
    command = [str(BOOTSTRAP), sys.executable, "/var/runtime/bootstrap.py"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_the_bootstrap_runs_a_handler(api: FakeRuntimeApi, tmp_path: Path) -> None:
    (tmp_path / "greeter.py").write_text(
        "from lambdas.runtime.streaming import StreamingReply\n"
        "def handler(event, context):\n"
        "    return StreamingReply(200, {}, iter([b'hello ', event['name'].encode()]))\n"
    )
    process = start_bootstrap(api, tmp_path, "greeter.handler")
    try:
        api.send("r1", {"name": "world"})
        assert split(api.receive().body)[1] == b"hello world"
    finally:
        process.kill()
        process.communicate(timeout=WAIT_SECONDS)


def test_an_init_error_is_posted_and_ends_the_process(api: FakeRuntimeApi, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('RECORDS_TABLE is missing')\n")
    process = start_bootstrap(api, tmp_path, "broken.handler")
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    posted = api.receive()

    assert process.returncode == 1
    assert posted.path == "init/error"
    assert json.loads(posted.body)["errorType"] == "RuntimeError"
    # Nothing of a caller can be in an init error: its message is what an operator needs.
    assert "RECORDS_TABLE is missing" in output.decode()
