"""The events of a streamed answer of `/v1/responses`: their order, whatever the chunks are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from contracts.response_objects import ResponseEvent
from contracts.responses import ResponsesRequest
from lambdas.pipeline.responses.operation import Responses
from lambdas.pipeline.responses.rendering import ResponseRendering
from lambdas.runtime.errors import ApiError
from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import MODEL, Door

Event = dict[str, Any]
OPENAI: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
LAST = {
    "stop": "completed",
    "tool_calls": "completed",
    "length": "incomplete",
    "content_filter": "incomplete",
}


def parsed(body: bytes) -> list[Event]:
    """The events; the name on the stream is the one in the data."""
    events = []
    for block in body.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event: Event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def rendering(**fields: Any) -> ResponseRendering:
    asked = ResponsesRequest.model_validate({"model": MODEL, "input": "x", "stream": True, **fields})
    return ResponseRendering("resp_r", 7, asked, clock=lambda: 9.0)


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call_delta(index: int, arguments: str, *, first: bool) -> dict[str, Any]:
    named = {"id": f"call_{index}", "type": "function"} if first else {}
    name = {"name": f"f{index}"} if first else {}
    return {"tool_calls": [{"index": index, **named, "function": {**name, "arguments": arguments}}]}


@st.composite
def answers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Chunks of an answer: notes, texts and calls in any order, each in any number of pieces."""
    chunks, calls = [chunk({"role": "assistant", "content": ""})], 0
    for kind in draw(st.lists(st.sampled_from(["notes", "text", "call", "nothing"]), max_size=6)):
        pieces = draw(st.lists(st.text(max_size=4), min_size=1, max_size=3))
        for number, piece in enumerate(pieces):
            if kind == "call":
                chunks.append(chunk(call_delta(calls, piece, first=number == 0)))
            elif kind != "nothing":
                chunks.append(chunk({"reasoning_content" if kind == "notes" else "content": piece}))
            else:
                chunks.append({"choices": []})
        calls += kind == "call"
    chunks.append(chunk({}, draw(st.sampled_from(sorted(LAST)))))
    counts = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    return [*chunks, {"choices": [], "usage": counts}] if draw(st.booleans()) else chunks


def streamed(chunks: list[dict[str, Any]]) -> list[Event]:
    told = rendering()
    body = b"".join(piece for each in chunks for piece in told.events(each))
    return parsed(body + b"".join(told.end()))


@given(answers())
def test_events_come_in_openais_order(chunks: list[dict[str, Any]]) -> None:
    events = streamed(chunks)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        ResponseEvent.model_validate(event)
    first, second, *middle, last = [event["type"].removeprefix("response.") for event in events]
    assert (first, second) == ("created", "in_progress")
    finish = next(c["finish_reason"] for each in chunks for c in each["choices"] if c["finish_reason"])
    assert last == LAST[finish]
    written = _items(events[2:-1])
    assert len(middle) == sum(len(item) for item in written)
    assert [item[-1]["item"] for item in written] == events[-1]["response"]["output"]
    assert written, "an answer has at least one item"


def _items(events: list[Event]) -> list[list[Event]]:
    """The events of each item, checked: one item ends before the next begins."""
    items: list[list[Event]] = []
    for event in events:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert not items or items[-1][-1]["type"] == "response.output_item.done"
            items.append([])
        items[-1].append(event)
        assert event["output_index"] == len(items) - 1
    for item in items:
        _one_item([event["type"].removeprefix("response.") for event in item], item)
    return items


def _one_item(kinds: list[str], events: list[Event]) -> None:
    item = events[-1]["item"]
    assert {event.get("item_id", item["id"]) for event in events} == {item["id"]}
    assert (events[0]["item"]["id"], events[0]["item"]["status"]) == (item["id"], "in_progress")
    deltas = "".join(event["delta"] for event in events if "delta" in event)
    if item["type"] == "function_call":
        assert (kinds[0], *kinds[-2:]) == (
            "output_item.added", "function_call_arguments.done", "output_item.done",
        )  # fmt: skip
        assert set(kinds[1:-2]) <= {"function_call_arguments.delta"}
        assert deltas == item["arguments"] == events[-2]["arguments"]
        return
    text = "output_text" if item["type"] == "message" else "reasoning_text"
    assert kinds[:2] == ["output_item.added", "content_part.added"]
    assert kinds[-3:] == [f"{text}.done", "content_part.done", "output_item.done"]
    assert set(kinds[2:-3]) <= {f"{text}.delta"}
    assert deltas == item["content"][0]["text"] == events[-3]["text"] == events[-2]["part"]["text"]


@given(answers())
def test_openais_client_puts_the_events_together_to_the_whole_answer(chunks: list[dict[str, Any]]) -> None:
    state: Any = ResponseStreamState(text_format=omit, input_tools=[])
    events = streamed(chunks)
    for event in events:
        state.handle_event(OPENAI.validate_python(event))
    whole = rendering()
    for each in chunks:
        whole.gather(each)
    assert json.loads(whole.whole()) == events[-1]["response"]


def test_a_call_that_comes_back_to_an_earlier_one_is_no_answer() -> None:
    told = rendering()
    for index in (0, 1):
        list(told.events(chunk(call_delta(index, "{", first=True))))
    with pytest.raises(ApiError):
        told.events(chunk(call_delta(0, "}", first=False)))


@pytest.mark.parametrize("texts", [(), ("Hel",)])
def test_a_stream_that_breaks_off_fails_with_what_there_was(door: Door, texts: tuple[str, ...]) -> None:
    body = chat_events(*texts, done=False)
    begun = body[: body.index(b'"finish_reason": "stop"')].rpartition(b"data: ")[0]
    door.sagemaker.replies = [Reply(parts=cut(begun, 40), break_off=True)]
    reply, text = door.ask({"model": MODEL, "input": "x", "stream": True}, route=Responses.route)
    assert reply.status == 200
    *_, error, failed = parsed(text)
    assert error["type"] == "error"
    assert (error["code"], error["message"]) == (error["error"]["code"], error["error"]["message"])
    answer = failed["response"]
    assert (failed["type"], answer["status"], answer["error"]["code"]) == (
        "response.failed", "failed", error["code"],
    )  # fmt: skip
    assert [item["status"] for item in answer["output"]] == ["incomplete"] * len(texts)
    assert failed["sequence_number"] == error["sequence_number"] + 1


def test_a_stream_tells_its_usage_and_ends_without_a_sentinel(door: Door) -> None:
    reply, text = door.ask({"model": MODEL, "input": "x", "stream": True}, route=Responses.route)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert b"[DONE]" not in text
    assert parsed(text)[-1]["response"]["usage"]["total_tokens"] == 8
