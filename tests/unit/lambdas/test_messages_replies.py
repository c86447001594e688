"""What `/v1/messages` answers: whole and as events in their order, refusals and errors included."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.guards import GuardSettings
from contracts.messages_replies import MessageErrorReply, MessageReply
from lambdas.api.service import _ANSWER_PREFIX
from lambdas.aws.dynamodb import DynamoDB
from lambdas.aws.work_table import AnswersTable
from lambdas.pipeline.invocation import HEARTBEAT
from lambdas.pipeline.messages.rendering import MessageRendering
from lambdas.runtime.errors import ApiError
from tests.support.fake_model_endpoint import Reply, chat_events, cut, stream_error
from tests.support.front_door import AUTHORIZER, MODEL, NONE, SETTINGS, Door, chat
from tests.support.messages_api import ROUTE, message, stream, with_tools

Make = Callable[..., Door]


def chunk(delta: dict[str, Any], finish: str | None = None, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}]}


def calling(number: int, arguments: str, *, begins: bool = False) -> dict[str, Any]:
    piece: dict[str, Any] = {"index": number, "function": {"arguments": arguments}}
    if begins:
        piece |= {"id": f"call_{number}", "type": "function"}
        piece["function"]["name"] = f"tool_{number}"
    return {"tool_calls": [piece]}


def answer(*chunks: dict[str, Any], usage: tuple[int, int] = (5, 3)) -> list[bytes]:
    """The chunks as the container's stream."""
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    sent = [*chunks, {"choices": [], "usage": counts}]
    events = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in sent)
    return cut(events + b"data: [DONE]\n\n", 40)


def ask(door: Door, **fields: Any) -> dict[str, Any]:
    reply, body = door.ask(message(**fields), route=ROUTE)
    assert reply.status == 200, body
    whole: dict[str, Any] = json.loads(body)
    return whole


def collected(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client puts together, checked for the order of what it is made of."""
    events = [event for event in events if event["type"] != "ping"]
    assert [events[0]["type"], events[-2]["type"], events[-1]["type"]] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    made: dict[str, Any] = events[0]["message"]
    assert (made["content"], made["stop_reason"]) == ([], None)
    inputs: list[str] = []
    is_open = False
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(made["content"])
            made["content"].append(event["content_block"])
            inputs.append("")
            is_open = True
            continue
        assert is_open
        assert event["index"] == len(made["content"]) - 1
        block = made["content"][-1]
        if event["type"] == "content_block_stop":
            is_open = False
            if block["type"] == "tool_use":
                block["input"] = json.loads(inputs[-1] or "{}")
            continue
        assert event["type"] == "content_block_delta"
        if event["delta"]["type"] == "text_delta":
            block["text"] += event["delta"]["text"]
        else:
            assert (event["delta"]["type"], block["type"]) == ("input_json_delta", "tool_use")
            inputs[-1] += event["delta"]["partial_json"]
    assert not is_open
    return {**made, **events[-2]["delta"], "usage": events[-2]["usage"]}


def test_a_whole_message(door: Door) -> None:
    assert ask(door) == {
        "id": "msg_req-1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {"input_tokens": 5, "output_tokens": 3},
    }


def test_a_streamed_message(door: Door) -> None:
    reply, body = door.ask(message(stream=True), route=ROUTE)
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = stream(body)
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert collected(events) == ask(door)


@pytest.mark.parametrize(
    ("last", "reason", "sequence"),
    [
        (chunk({}, "stop"), "end_turn", None),
        (chunk({}, "length"), "max_tokens", None),
        (chunk({}, "stop", stop_reason="END"), "stop_sequence", "END"),
        (chunk({}, "stop", stop_reason=2), "end_turn", None),  # a token's number, as vLLM tells it
        (chunk({}, "content_filter"), "refusal", None),
    ],
)
def test_why_it_ended(door: Door, last: dict[str, Any], reason: str, sequence: str | None) -> None:
    door.sagemaker.replies = [Reply(parts=answer(chunk({"content": "Hi"}), last))]
    whole = ask(door)
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, sequence)
    _, body = door.ask(message(stream=True), route=ROUTE)
    assert collected(stream(body)) == whole


CALLS = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Let me see."}),
    chunk(calling(0, '{"city": ', begins=True)),
    chunk(calling(0, '"Köln"}')),
    chunk(calling(1, "", begins=True)),
)


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
def test_calls_of_tools(door: Door, finish: str) -> None:
    door.sagemaker.replies = [Reply(parts=answer(*CALLS, chunk({}, finish)))]
    _, body = door.ask(with_tools(), route=ROUTE)
    whole = json.loads(body)
    assert whole["content"] == [
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "call_0", "name": "tool_0", "input": {"city": "Köln"}},
        {"type": "tool_use", "id": "call_1", "name": "tool_1", "input": {}},
    ]
    assert whole["stop_reason"] == "tool_use"
    _, body = door.ask(with_tools(stream=True), route=ROUTE)
    assert collected(stream(body)) == whole


@pytest.mark.parametrize(("finish", "status"), [("length", 200), ("tool_calls", 500)])
def test_a_call_that_is_no_json_is_nobodys_to_make(door: Door, finish: str, status: int) -> None:
    door.sagemaker.replies = [Reply(parts=answer(*CALLS[:3], chunk({}, finish)))]
    reply, body = door.ask(with_tools(), route=ROUTE)
    assert reply.status == status
    if status == 200:
        assert json.loads(body)["stop_reason"] == "max_tokens"
    else:
        assert json.loads(body)["error"]["type"] == "api_error"


_TEXT = st.text(max_size=4).map(lambda text: chunk({"content": text}))
_PARTS = st.lists(
    st.one_of(
        st.lists(_TEXT, max_size=3),
        st.just([chunk({})]),
        st.lists(st.sampled_from(['{"a":', "1", "}"]), max_size=2),
    ),
    max_size=5,
)


@given(st.integers(0, 3), _PARTS, st.sampled_from(["stop", "length", "tool_calls", "content_filter", None]))
def test_events_are_in_order_whatever_comes(beats: int, parts: list[Any], finish: str | None) -> None:
    chunks: list[dict[str, Any]] = []
    number = 0
    for part in parts:
        if part and isinstance(part[0], dict):
            chunks += part
        else:  # a call, whose arguments come whole or in two pieces
            head, tail = '{"a": [1', "]}"
            chunks += [chunk(calling(number, head, begins=True)), chunk(calling(number, tail))]
            number += 1
    ending = [chunk({}, finish)] if finish else []
    streamed, assembled = (MessageRendering("msg_1", "m", "1") for _ in range(2))
    body = b"".join(piece for _ in range(beats) for piece in streamed.waiting())
    for each in [chunk({"role": "assistant"}), *chunks, *ending]:
        body += b"".join(streamed.events(each))
        assembled.gather(each)
    body += b"".join(streamed.end())
    events = stream(body)
    assert sum(event["type"] == "ping" for event in events) == beats
    whole = json.loads(assembled.whole())
    assert joined(collected(events)) == joined(whole)
    MessageReply.model_validate(whole)


def joined(whole: dict[str, Any]) -> dict[str, Any]:
    """The message with its texts as one, in front: a whole answer keeps no place for them among the calls."""
    text = "".join(block["text"] for block in whole["content"] if block["type"] == "text")
    return {
        **whole,
        "content": [text, *(block for block in whole["content"] if block["type"] != "text")],
    }


def test_what_waits_begins_with_the_message() -> None:
    rendering = MessageRendering("msg_1", "m", "1")
    events = stream(b"".join([*rendering.waiting(), *rendering.waiting(), *rendering.events(HEARTBEAT)]))
    assert [event["type"] for event in events] == ["message_start", "ping", "ping"]


def test_calls_that_do_not_follow_one_another_are_no_answer() -> None:
    rendering = MessageRendering("msg_1", "m", "1")
    for delta in (calling(0, "{", begins=True), calling(1, "{}", begins=True)):
        list(rendering.events(chunk(delta)))
    with pytest.raises(ApiError, match="bad_model_answer"):
        list(rendering.events(chunk(calling(0, "}"))))


# --- refusals and errors ---------------------------------------------------------------------------------

GUARDS = GuardSettings.model_validate({"denied_topics": {"weapons": ["a bomb"]}})


@pytest.mark.parametrize("streamed", [False, True])
def test_a_refused_prompt_is_a_refusal(make_door: Make, streamed: bool) -> None:
    door = make_door(SETTINGS.model_copy(update={"guards": GUARDS}))
    request = message(messages=[{"role": "user", "content": "How do I build a bomb?"}], stream=streamed)
    _, body = door.ask(request, route=ROUTE)
    whole = collected(stream(body)) if streamed else json.loads(body)
    assert whole["stop_reason"] == "refusal"
    assert whole["stop_details"]["explanation"] == "Refused by a guard (denied_topic:weapons)."
    assert whole["usage"] == {"input_tokens": 0, "output_tokens": 0}


def refused(door: Door, body: bytes | dict[str, Any], **caller: str) -> tuple[Any, dict[str, Any]]:
    reply, text = door.ask(body, route=ROUTE, headers=NONE, **caller)
    MessageErrorReply.model_validate_json(text)
    return reply, json.loads(text)


@pytest.mark.parametrize(
    ("body", "caller", "status", "kind"),
    [
        (b"{", {}, 400, "invalid_request_error"),
        (b"\xff", {}, 400, "invalid_request_error"),
        (message(model="claude"), {}, 404, "not_found_error"),
        (b" " * 1_000_001, {}, 413, "request_too_large"),
        (message(), {"tenant": ""}, 401, "authentication_error"),
        (message(), {"tenant": "shop", "scopes": "other"}, 403, "permission_error"),
    ],
)
def test_errors_have_the_protocols_shape(
    door: Door, body: bytes | dict[str, Any], caller: dict[str, str], status: int, kind: str
) -> None:
    reply, error = refused(door, body, **caller)
    assert (reply.status, error["type"], error["error"]["type"]) == (status, "error", kind)
    assert error["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]
    assert set(error["error"]) == {"type", "message"}


@pytest.mark.parametrize(
    ("status", "code", "fields", "expected"),
    [
        (503, "ServiceUnavailable", {}, (529, "overloaded_error", "2")),
        (400, "ThrottlingException", {}, (429, "rate_limit_error", "2")),
        (
            424,
            "ModelError",
            {"OriginalStatusCode": 500, "OriginalMessage": "x"},
            (500, "api_error", None),
        ),
        (
            424,
            "ModelError",
            {"OriginalStatusCode": 504, "OriginalMessage": "x"},
            (504, "timeout_error", None),
        ),
    ],
)
def test_failures_of_the_model_have_the_protocols_statuses(
    door: Door, status: int, code: str, fields: dict[str, Any], expected: tuple[int, str, str | None]
) -> None:
    door.sagemaker.replies = [Reply(status=status, error=(code, {"Message": "m", **fields}))]
    reply, error = refused(door, message())
    assert (reply.status, error["error"]["type"], reply.headers.get("retry-after")) == expected
    assert (door.record() or {})["status"] == (503 if expected[0] == 529 else expected[0])


def test_a_prompt_that_does_not_fit_is_said_in_words_that_clients_know(door: Door) -> None:
    inside = {
        "message": "This model's maximum context length is 8 tokens.",
        "type": "invalid_request_error",
        "code": "context_length_exceeded",
    }
    fields = {"OriginalStatusCode": 400, "OriginalMessage": json.dumps({"error": inside})}
    door.sagemaker.replies = [Reply(status=424, error=("ModelError", {"Message": "m", **fields}))]
    _, error = refused(door, message())
    assert error["error"]["message"] == f"prompt is too long: {inside['message']}"


def test_an_error_within_a_stream_is_its_last_event(door: Door) -> None:
    parts = [*cut(chat_events("Hel", done=False)[:-150], 50), stream_error("ModelStreamError", "x")]
    door.sagemaker.replies = [Reply(parts=parts)]
    reply, body = door.ask(message(stream=True), route=ROUTE)
    events = stream(body)
    assert reply.status == 200
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "error"]
    MessageErrorReply.model_validate(events[-1])


@pytest.mark.parametrize(
    ("limit", "tries_again"), [("requests_per_second", None), ("requests_per_day", "false")]
)
def test_nobody_waits_until_tomorrow(door: Door, limit: str, tries_again: str | None) -> None:
    caller = {"tenant": "shop", "key_name": "web", "key_id": "k", "scopes": "inference", limit: "1"}
    replies = [door.ask(message(), route=ROUTE, headers=NONE, **caller)[0] for _ in range(4)]
    last = replies[-1]
    assert last.status == 429
    assert last.headers.get("x-should-retry") == tries_again


def test_feedback_finds_the_answer_by_its_id() -> None:
    assert _ANSWER_PREFIX.sub("", "msg_req-1") == "req-1"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_kept_message_says_what_the_first_one_said(make_door: Make, streamed: bool) -> None:
    settings = SETTINGS.model_copy(update={"cache_max_seconds": 600})
    door = make_door(settings, answers=AnswersTable("work", DynamoDB()))
    door.sagemaker.replies = [
        Reply(parts=answer(chunk({"content": "Hi"}), chunk({}, "stop", stop_reason="END")))
    ]
    caller = AUTHORIZER | {"key_id": "abc"}
    said = []
    for expected in ("miss", "hit"):
        request = message(stop_sequences=["END"], stream=streamed)
        reply, body = door.ask(request, route=ROUTE, headers={"cache-control": "max-age=60"}, **caller)
        assert reply.headers["x-cache"] == expected
        said.append(collected(stream(body)) if streamed else json.loads(body))
    assert said[0] == said[1]
    assert said[1]["stop_sequence"] == "END"
    _, chat_body = door.ask(chat(), headers={"cache-control": "max-age=60"}, **caller)
    assert json.loads(chat_body)["object"] == "chat.completion"


def test_a_message_is_no_job(door: Door) -> None:
    door.sagemaker.replies = [Reply(status=503, error=("ServiceUnavailable", {"Message": "m"}))]
    reply, _ = door.ask(message(), route=ROUTE, headers={"prefer": "respond-async"} | dict(NONE))
    assert reply.status == 529
