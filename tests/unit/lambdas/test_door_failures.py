"""Models that fail, callers that leave, and the silence of the log about all of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contracts import metrics
from tests.support.fake_model_endpoint import Reply, chat_events, cut, payload_part, stream_error
from tests.support.front_door import Door, chat, emitted, events


def container_error(status: int, message: str) -> Reply:
    """The container's error as SageMaker wraps it."""
    fields = {
        "Message": f'Received client error ({status}) from primary with message "…"',
        "OriginalStatusCode": status,
        "OriginalMessage": message,
        "LogStreamArn": "arn:x",
    }
    return Reply(status=424, error=("ModelError", fields))


TOO_LONG = json.dumps(
    {
        "error": {
            "message": "The prompt has 9000 tokens; 8192 fit.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    }
)


def test_a_prompt_longer_than_the_context_keeps_the_containers_answer(door: Door) -> None:
    door.sagemaker.replies = [container_error(400, TOO_LONG)]
    status, error = door.error(chat(stream=True))
    assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    assert error["message"] == "The prompt has 9000 tokens; 8192 fit."
    assert len(door.sagemaker.calls) == 1


@pytest.mark.parametrize(
    ("reply", "status", "retry_after", "calls"),
    [
        pytest.param(container_error(503, "busy"), 503, True, 1, id="container full"),
        pytest.param(container_error(429, "busy"), 503, True, 1, id="container throttles"),
        pytest.param(container_error(500, "oops"), 500, False, 1, id="container fails"),
        pytest.param(container_error(504, ""), 504, False, 1, id="container timed out"),
        pytest.param(
            Reply(status=503, error=("ServiceUnavailable", {"Message": "no"})), 503, True, 2, id="503"
        ),
        pytest.param(Reply(status=500, error=("InternalFailure", {"Message": "no"})), 503, True, 2, id="500"),
        pytest.param(
            Reply(status=429, error=("ModelNotReadyException", {"Message": "no"})),
            503,
            True,
            1,
            id="not ready",
        ),
        pytest.param(
            Reply(status=400, error=("ThrottlingException", {"Message": "slow"})),
            429,
            True,
            1,
            id="throttled",
        ),
        pytest.param(Reply(status=400, error=(None, {"message": None})), 429, True, 1, id="400 with null"),
        pytest.param(
            Reply(status=400, error=("ValidationError", {"Message": "Endpoint x not found."})),
            503,
            True,
            1,
            id="no endpoint",
        ),
        pytest.param(Reply(break_off=True), 503, True, 2, id="connection lost"),
    ],
)
def test_a_failed_call_has_its_true_status(
    door: Door, reply: Reply, status: int, retry_after: bool, calls: int
) -> None:
    door.sagemaker.replies = [reply]
    got, body = door.ask(chat(stream=True))
    assert got.status == status
    assert json.loads(body)["error"]["type"]
    assert ("retry-after" in got.headers) == retry_after
    assert len(door.sagemaker.calls) == calls


def test_one_failed_attempt_is_made_good_by_the_second(door: Door) -> None:
    good = door.sagemaker.replies[0]
    door.sagemaker.replies = [Reply(status=503, error=("ServiceUnavailable", {"Message": "no"})), good]
    reply, _ = door.ask(chat())
    assert reply.status == 200
    assert len(door.sagemaker.calls) == 2


def test_an_endpoint_that_stays_down_is_not_called_for_every_request(door: Door) -> None:
    door.sagemaker.replies = [Reply(status=503, error=("ServiceUnavailable", {"Message": "no"}))]
    replies = [door.ask(chat())[0] for _ in range(30)]
    assert {reply.status for reply in replies} == {503}
    assert all(1 <= int(reply.headers["retry-after"]) <= 5 for reply in replies)
    # Five failures open the circuit, each of them tried twice.
    assert len(door.sagemaker.calls) == 10


def test_refusals_do_not_open_the_circuit(door: Door) -> None:
    door.sagemaker.replies = [container_error(503, "busy")]
    for _ in range(10):
        door.ask(chat())
    assert len(door.sagemaker.calls) == 10


BROKEN_STREAMS = [
    pytest.param(
        Reply(parts=[payload_part(chat_events("Hel", done=False)), stream_error("ModelStreamError", "x")]),
        "stream_interrupted",
        id="error event",
    ),
    pytest.param(
        Reply(parts=[payload_part(chat_events("Hel", done=False))], break_off=True),
        "stream_interrupted",
        id="connection lost",
    ),
    pytest.param(
        Reply(parts=[payload_part(chat_events("Hel", done=False))]), "stream_interrupted", id="ends early"
    ),
    pytest.param(
        Reply(parts=[payload_part(chat_events("Hel", done=False) + b"data: {oops\n\n")]),
        "bad_model_answer",
        id="garbage",
    ),
    pytest.param(
        Reply(
            parts=[
                payload_part(
                    chat_events("Hel", done=False) + b'data: {"error":{"message":"m",'
                    b'"type":"server_error","code":"cuda"}}\n\n'
                )
            ]
        ),
        "cuda",
        id="in-band error",
    ),
]


@pytest.mark.parametrize(("reply", "code"), BROKEN_STREAMS)
def test_a_broken_stream_ends_with_an_error_event_and_is_counted(
    door: Door, reply: Reply, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    door.sagemaker.replies = [reply]
    got, body = door.ask(chat(stream=True))
    *chunks, last = events(body)
    assert got.status == 200
    assert any(c["choices"] and c["choices"][0]["delta"].get("content") == "Hel" for c in chunks)
    assert last["error"]["code"] == code
    (line,) = emitted(capsys.readouterr().out, metrics.ERRORS)
    assert line[metrics.ERRORS] == 1
    record = door.record()
    assert record is not None
    assert (record["status"], record["error_type"]) == (500, "server_error")
    assert len(door.sagemaker.calls) == 1


@pytest.mark.parametrize(("reply", "code"), BROKEN_STREAMS)
def test_a_broken_stream_has_its_true_status_when_nothing_was_sent(
    door: Door, reply: Reply, code: str
) -> None:
    door.sagemaker.replies = [reply]
    status, error = door.error(chat())
    assert (status, error["code"]) == (500, code)


def test_an_answer_that_is_no_stream_is_an_error(door: Door) -> None:
    door.sagemaker.replies = [Reply(parts=[payload_part(b'{"outputs": "hello"}')])]
    status, error = door.error(chat(stream=True))
    assert (status, error["type"]) == (500, "server_error")


def test_a_caller_that_leaves_ends_the_models_work(door: Door) -> None:
    endless = (payload_part(chat_events("x" * 4096, done=False)) for _ in range(100_000))
    door.sagemaker.replies = [Reply(parts=endless)]
    reply = door.start(chat(stream=True))
    next(iter(reply.body))
    # What the runtime does when a piece can no longer be sent.
    reply.body.close()  # type: ignore[attr-defined]
    reply.after()

    assert door.sagemaker.gone.wait(60)
    record = door.record()
    assert record is not None
    assert (record["status"], record["error_type"]) == (499, "client_gone")


def test_a_caller_that_leaves_before_the_first_piece_ends_the_models_work(door: Door) -> None:
    endless = (payload_part(chat_events("x" * 4096, done=False)) for _ in range(100_000))
    door.sagemaker.replies = [Reply(parts=endless)]
    reply = door.start(chat(stream=True))
    reply.body.close()  # type: ignore[attr-defined]
    reply.after()
    assert door.sagemaker.gone.wait(60)
    record = door.record()
    assert record is not None
    assert record["status"] == 499


def test_no_prompt_or_answer_ever_reaches_the_log(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "zanzibar-4711"
    answered = chat_events(secret)
    bodies: list[bytes | dict[str, Any]] = [
        chat(secret),
        chat(secret, stream=True),
        {**chat(secret), "messages": [{"role": secret, "content": secret}]},
        {**chat(), secret: secret},
        chat(secret, max_tokens=secret),
        {**chat(secret), "model": secret},
        b'{"messages": "' + secret.encode(),
        b"\xff" + secret.encode(),
    ]
    replies = [
        Reply(parts=cut(answered, 40)),
        Reply(parts=[payload_part(answered[:-20] + secret.encode() + b"\n\n")]),
        Reply(parts=[payload_part(answered), stream_error("ModelStreamError", secret)], break_off=True),
        container_error(400, secret),
        container_error(500, json.dumps({"error": {"message": secret, "type": secret}})),
        Reply(status=500, error=("InternalFailure", {"Message": secret})),
        Reply(break_off=True),
    ]
    door.sagemaker.replies = replies
    for body in bodies * len(replies):
        door.ask(body)
    door.tables.delete_table(TableName="records")
    door.ask(chat(secret, user=secret))

    captured = capsys.readouterr()
    assert "request" in captured.out
    assert secret not in captured.out + captured.err
