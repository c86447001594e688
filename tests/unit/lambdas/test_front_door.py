"""Requests through the whole pipeline, with the real SageMaker Runtime client."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from door_world import ENDPOINT, MODEL, Door, chat, emitted, events
from fake_model_endpoint import Reply, chat_events, cut, payload_part, stream_error

from contracts import metrics
from contracts.chat import ChatChunk, ChatCompletion
from contracts.routing import Routing, VariantRoute

AB_TEST = Routing(
    endpoint_name=ENDPOINT,
    experiment="e1",
    variants=[
        VariantRoute(name="champion", weight=1, model_version="v1"),
        VariantRoute(name="challenger", weight=1, model_version="v2"),
    ],
)


def container_error(status: int, message: str) -> Reply:
    """The container's error as SageMaker wraps it."""
    fields = {
        "Message": f'Received client error ({status}) from primary with message "…"',
        "OriginalStatusCode": status,
        "OriginalMessage": message,
        "LogStreamArn": "arn:x",
    }
    return Reply(status=424, error=("ModelError", fields))


# --- answers ---------------------------------------------------------------------------------------------


def test_a_streamed_answer(door: Door) -> None:
    reply, body = door.ask(chat(stream=True))

    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-request-id"] == "req-1"
    assert reply.headers["x-evergreen-variant"] == "champion"
    *chunks, done = events(body)
    assert done == "[DONE]"
    parsed = [ChatChunk.model_validate(chunk) for chunk in chunks]
    assert {chunk.id for chunk in parsed} == {"chatcmpl-req-1"}
    assert {chunk.model for chunk in parsed} == {MODEL}
    assert "".join(c.choices[0].delta.content or "" for c in parsed) == "Hello"
    assert parsed[-1].choices[0].finish_reason == "stop"


def test_usage_comes_last_when_asked_for(door: Door) -> None:
    _, body = door.ask(chat(stream=True, stream_options={"include_usage": True}))
    *_, usage, done = events(body)
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert done == "[DONE]"


def test_usage_stays_away_when_not_asked_for(door: Door) -> None:
    _, body = door.ask(chat(stream=True))
    assert not any(chunk.get("usage") for chunk in events(body)[:-1])


def test_a_whole_answer(door: Door) -> None:
    reply, body = door.ask(chat())
    answer = ChatCompletion.model_validate_json(body)

    assert reply.headers["content-type"] == "application/json"
    assert answer.id == "chatcmpl-req-1"
    assert answer.model == MODEL
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 8


def test_the_model_is_asked_to_stream_with_usage_and_gets_only_what_the_caller_set(door: Door) -> None:
    door.ask(chat(temperature=0))
    headers, body = door.sagemaker.calls[0]
    assert json.loads(body) == {
        **chat(),
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert headers["x-amzn-sagemaker-custom-attributes"] == "request_id=req-1"
    assert "x-amzn-sagemaker-target-variant" not in headers


def test_pieces_pass_while_the_model_still_works(door: Door) -> None:
    whole = chat_events("Hel", "lo")
    first_half = whole[: whole.index(b"lo") - 100]
    go_on = threading.Event()
    parts = [payload_part(first_half), payload_part(whole[len(first_half) :])]
    door.sagemaker.replies = [Reply(parts=parts, hold=go_on)]

    pieces = iter(door.start(chat(stream=True)).body)
    # The model has sent half and waits: a door that collects could not show it.
    assert b"assistant" in next(pieces)
    go_on.set()
    assert b"".join(pieces).endswith(b"data: [DONE]\n\n")


def test_one_connection_serves_many_requests(door: Door) -> None:
    for _ in range(3):
        door.ask(chat(stream=True))
    assert len(door.sagemaker.connections) == 1


# --- what is kept and counted ----------------------------------------------------------------------------


def test_the_record_of_an_answer(door: Door) -> None:
    door.ask(chat(stream=True, user="u-7"))
    record = door.record()
    assert record is not None
    expected = {
        "tenant": "shop",
        "user": "u-7",
        "model": MODEL,
        "model_version": "v1",
        "variant": "champion",
        "streamed": True,
        "status": 200,
        "finish_reason": "stop",
        "prompt_tokens": 5,
        "completion_tokens": 3,
    }
    assert {name: record[name] for name in expected} == expected
    assert record["time_to_first_token_ms"] <= record["duration_ms"]
    assert record["expires_at"] > 1_700_000_000


def test_the_metrics_of_an_answer(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    door.ask(chat(stream=True))
    (line,) = emitted(capsys.readouterr().out, metrics.REQUESTS)
    assert line[metrics.REQUESTS] == 1
    assert line[metrics.ERRORS] == 0
    assert line[metrics.INPUT_TOKENS] == 5
    assert line[metrics.OUTPUT_TOKENS] == 3
    assert line[metrics.TIME_TO_FIRST_TOKEN] <= line[metrics.DURATION]
    assert (line["endpoint"], line["variant"], line["model_version"]) == (ENDPOINT, "champion", "v1")
    sets = [names for directive in line["_aws"]["CloudWatchMetrics"] for names in directive["Dimensions"]]
    assert ["endpoint", "variant", "model_version"] in sets


def test_a_record_that_cannot_be_stored_breaks_nothing(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    door.tables.delete_table(TableName="records")
    reply, body = door.ask(chat())
    assert reply.status == 200
    assert json.loads(body)["choices"]
    (line,) = emitted(capsys.readouterr().out, metrics.RECORDS_LOST)
    assert line[metrics.RECORDS_LOST] == 1


# --- bad requests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        pytest.param(b"{not json", 400, None, "invalid_json", id="not JSON"),
        pytest.param(b"", 400, None, "invalid_json", id="empty body"),
        pytest.param(b"[" * 100_000, 400, None, "invalid_json", id="deeply nested"),
        pytest.param(b"[]", 400, None, "invalid_value", id="not an object"),
        pytest.param(b'{"model":"\xff"}', 400, None, "invalid_encoding", id="invalid UTF-8"),
        pytest.param(chat("x" * 2_000_000), 413, None, "request_too_large", id="2 MB prompt"),
        pytest.param({**chat(), "model": "gpt-9"}, 404, "model", "model_not_found", id="unknown model"),
        pytest.param({**chat(), "model": 7}, 400, "model", "invalid_value", id="model is a number"),
        pytest.param({"messages": chat()["messages"]}, 400, "model", "missing_parameter", id="no model"),
        pytest.param({**chat(), "messages": []}, 400, "messages", "invalid_value", id="no messages"),
        pytest.param({**chat(), "messages": "hi"}, 400, "messages", "invalid_value", id="messages is text"),
        pytest.param(
            {"model": MODEL, "messages": [{"role": "user", "content": 5}]},
            400,
            "messages.0.content",
            "invalid_value",
            id="content is a number",
        ),
        pytest.param(
            {"model": MODEL, "messages": [{"role": "boss", "content": "x"}]},
            400,
            "messages.0.role",
            "invalid_value",
            id="unknown role",
        ),
        pytest.param(chat(max_tokens=0), 400, "max_tokens", "invalid_value", id="max_tokens 0"),
        pytest.param(chat(max_tokens=10**9), 400, "max_tokens", "invalid_value", id="max_tokens huge"),
        pytest.param(chat(max_tokens="9"), 400, "max_tokens", "invalid_value", id="max_tokens is text"),
        pytest.param(chat(temperature=9), 400, "temperature", "invalid_value", id="temperature too high"),
        pytest.param(chat(stream="yes"), 400, "stream", "invalid_value", id="stream is text"),
        pytest.param(chat(magic=True), 400, "magic", "unknown_parameter", id="unknown field"),
    ],
)
def test_a_bad_request_is_refused_by_name(
    door: Door, body: bytes | dict[str, Any], status: int, param: str | None, code: str
) -> None:
    got, error = door.error(body)
    assert (got, error["param"], error["code"]) == (status, param, code)
    assert error["message"]
    assert door.sagemaker.calls == []


def test_a_refusal_carries_the_request_id_and_is_counted_by_type(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    reply, _ = door.ask(b"{")
    assert reply.headers["x-request-id"] == "req-1"
    (line,) = emitted(capsys.readouterr().out, metrics.ERRORS)
    assert line["error_type"] == "invalid_request_error"
    error_sets = [
        directive["Dimensions"]
        for directive in line["_aws"]["CloudWatchMetrics"]
        if directive["Metrics"][0]["Name"] == metrics.ERRORS
    ]
    # A caller's mistake must not trip an alarm on the variant.
    assert error_sets == [[["endpoint", "error_type"]]]


def test_a_request_without_tenant_is_not_answered(door: Door) -> None:
    reply, body = door.ask(chat(), scopes="inference")
    assert reply.status == 401
    assert json.loads(body)["error"]["type"] == "authentication_error"


def test_a_key_without_the_scope_is_not_answered(door: Door) -> None:
    reply, body = door.ask(chat(), tenant="shop", key_name="k", scopes="read")
    assert reply.status == 403
    assert json.loads(body)["error"]["code"] == "insufficient_scope"


# --- a model that fails ----------------------------------------------------------------------------------

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


def test_retries_end_with_their_budget(door: Door) -> None:
    door.sagemaker.replies = [Reply(status=503, error=("ServiceUnavailable", {"Message": "no"}))]
    for _ in range(30):
        door.ask(chat())
    # Five to begin with and one more for every ten requests.
    assert 30 < len(door.sagemaker.calls) <= 30 + 5 + 3


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


# --- variants --------------------------------------------------------------------------------------------


def test_an_experiment_names_the_variant_and_its_version(door: Door) -> None:
    door.route(AB_TEST)
    seen = set()
    for number in range(40):
        door.ask(chat(user=f"u-{number}"))
        seen.add(door.sagemaker.calls[-1][0]["x-amzn-sagemaker-target-variant"])
    assert seen == {"champion", "challenger"}


def test_the_same_user_gets_the_same_variant(door: Door) -> None:
    door.route(AB_TEST)
    for _ in range(10):
        door.ask(chat(user="u-1"))
    assert len({headers["x-amzn-sagemaker-target-variant"] for headers, _ in door.sagemaker.calls}) == 1


def test_a_variant_that_vanished_is_replaced_by_the_endpoints_choice(door: Door) -> None:
    door.route(AB_TEST.model_copy(update={"variants": [AB_TEST.variants[1]]}))
    good = door.sagemaker.replies[0]
    vanished = Reply(status=400, error=("ValidationError", {"Message": "Variant challenger not found"}))
    door.sagemaker.replies = [vanished, good]
    reply, _ = door.ask(chat())
    assert reply.status == 200
    assert reply.headers["x-evergreen-variant"] == "champion"
    asked = ["x-amzn-sagemaker-target-variant" in headers for headers, _ in door.sagemaker.calls]
    assert asked == [True, False]


def test_without_routing_item_the_endpoint_decides(door: Door) -> None:
    reply, _ = door.ask(chat())
    assert reply.headers["x-evergreen-variant"] == "champion"
    assert "x-amzn-sagemaker-target-variant" not in door.sagemaker.calls[0][0]


def test_a_routing_table_that_fails_does_not_stop_answers(door: Door) -> None:
    door.tables.delete_table(TableName="access")
    reply, _ = door.ask(chat())
    assert reply.status == 200


# --- silence ---------------------------------------------------------------------------------------------


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
