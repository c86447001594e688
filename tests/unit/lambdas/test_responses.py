"""`/v1/responses`: what it takes and refuses, the chat that it becomes, and the object that it answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai.types.responses import Response as OpenAIResponse

from contracts.chat import ChatRequest
from contracts.container import decode_attributes
from contracts.guards import GuardSettings
from contracts.response_objects import ModelResponse
from lambdas.pipeline.responses.operation import Responses
from tests.support.fake_model_endpoint import Reply, chat_events, cut
from tests.support.front_door import MODEL, SETTINGS, Door
from tests.support.response_requests import ASK, CALL, PAIRS, RESULT, SAID, STRICT, allowed, function, user
from tests.unit.lambdas.test_door_tools import CALL as CALL_CHUNKS
from tests.unit.lambdas.test_door_tools import LOGPROB, stream

ROUTE = Responses.route


def respond(door: Door, **fields: Any) -> tuple[int, dict[str, Any]]:
    """Status and body of a whole answer."""
    reply, text = door.ask({"model": MODEL, **fields}, route=ROUTE)
    body: dict[str, Any] = json.loads(text)
    return reply.status, body


def sent(door: Door) -> dict[str, Any]:
    """What the model was asked last."""
    body: dict[str, Any] = json.loads(door.sagemaker.calls[-1][1])
    return body


@pytest.mark.parametrize("case", PAIRS)
def test_what_clients_send_reaches_the_model_as_a_chat(door: Door, case: str) -> None:
    status, body = respond(door, **PAIRS[case].taken)
    assert status == 200, body
    assert ChatRequest.model_validate(sent(door)).model_dump(exclude_unset=True) == sent(door)
    assert "route" not in decode_attributes(door.sagemaker.calls[-1][0]["x-amzn-sagemaker-custom-attributes"])


@pytest.mark.parametrize("case", PAIRS)
def test_the_counterpart_is_refused_in_words(door: Door, case: str) -> None:
    pair = PAIRS[case]
    status, body = respond(door, **pair.refused)
    assert status == 400, body
    error = body["error"]
    assert (error["param"], error["code"]) == (pair.param, pair.code), error
    assert pair.words in error["message"]
    assert door.sagemaker.calls == []


def test_items_become_turns(door: Door) -> None:
    respond(
        door,
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "In French."},
            user({"type": "input_text", "text": "Wea"}, {"type": "input_text", "text": "ther?"}),
            SAID,
            CALL,
            {**CALL, "call_id": "call_2"},
            RESULT,
            {**RESULT, "call_id": "call_2", "output": [{"type": "input_text", "text": "13 C"}]},
            ASK,
        ],
    )
    function_called = {"name": CALL["name"], "arguments": CALL["arguments"]}
    assert sent(door)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "In French."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "Hi.",
            "tool_calls": [
                {"id": name, "type": "function", "function": function_called} for name in ("call_1", "call_2")
            ],
        },
        {"role": "tool", "content": "12 C", "tool_call_id": "call_1"},
        {"role": "tool", "content": "13 C", "tool_call_id": "call_2"},
        {"role": "user", "content": "Weather?"},
    ]


def test_parameters_become_those_of_a_chat(door: Door) -> None:
    respond(
        door,
        input="x",
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        user="u",
        parallel_tool_calls=False,
        tools=[function(), function("other")],
        tool_choice=allowed("other", mode="required"),
        text={"format": STRICT | {"schema": {"type": "object", "properties": {}, "required": []} | NO_MORE}},
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        reasoning={"effort": "high"},
    )  # fmt: skip
    body = sent(door)
    assert {name: body[name] for name in ("max_completion_tokens", "temperature", "top_p", "user")} == {
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "user": "u",
    }
    assert (body["logprobs"], body["top_logprobs"], body["parallel_tool_calls"]) == (True, 2, False)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["other"]
    assert (body["tool_choice"], body["response_format"]["json_schema"]["strict"]) == ("required", True)
    assert "reasoning" not in body


NO_MORE = {"additionalProperties": False}


def test_the_object_is_openais(door: Door) -> None:
    status, body = respond(
        door, input="Hi", metadata={"a": "b"}, instructions="Be brief.", max_output_tokens=9
    )
    assert status == 200
    assert ModelResponse.model_validate(body).model_dump() == body, "nothing that the contract does not name"
    answer = OpenAIResponse.model_validate(body)
    assert (answer.id, answer.object, answer.status) == ("resp_req-1", "response", "completed")
    assert (answer.output_text, answer.output[0].id) == ("Hello", "msg_req-1_0")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (5, 3, 8)
    assert (answer.metadata, answer.instructions, answer.max_output_tokens) == ({"a": "b"}, "Be brief.", 9)
    assert body["store"] is False, "nothing is kept as OpenAI keeps it, unless it was asked for"
    assert (answer.incomplete_details, answer.error) == (None, None)


def test_calls_are_items(door: Door) -> None:
    door.sagemaker.replies = stream({"delta": {"content": "Wait."}}, *CALL_CHUNKS)
    _, body = respond(door, input="Mail Bob", tools=[function("mail")], tool_choice="auto")
    output: list[Any] = OpenAIResponse.model_validate(body).output
    message, call = output
    assert (message.type, message.status) == ("message", "completed")
    assert call.type == "function_call"
    assert (call.id, call.call_id, call.name) == ("fc_req-1_1", "call_1", "mail")
    assert (call.arguments, call.status) == ('{"to": "bob@y.org"}', "completed")
    assert (body["tools"], body["tool_choice"]) == ([function("mail")], "auto")


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_is_cut_short_is_incomplete(door: Door, finish: str, reason: str) -> None:
    door.sagemaker.replies = [Reply(parts=cut(chat_events("Hel", finish=finish), 50))]
    _, body = respond(door, input="Hi")
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert [item["status"] for item in body["output"]] == ["incomplete"]


def test_an_answer_without_a_word_is_an_empty_message(door: Door) -> None:
    door.sagemaker.replies = [Reply(parts=cut(chat_events(), 50))]
    _, body = respond(door, input="Hi")
    assert (body["status"], OpenAIResponse.model_validate(body).output_text) == ("completed", "")
    assert len(body["output"]) == 1


def test_log_probabilities_have_their_bytes(door: Door) -> None:
    without = {**LOGPROB, "bytes": None, "top_logprobs": [{"token": "Ho", "logprob": -2.0}]}
    door.sagemaker.replies = stream(
        {"delta": {"content": "Hi"}, "logprobs": {"content": [without]}, "finish_reason": "stop"}
    )
    _, body = respond(door, input="x", include=["message.output_text.logprobs"], top_logprobs=1)
    [told] = body["output"][0]["content"][0]["logprobs"]
    assert (told["bytes"], told["top_logprobs"][0]["bytes"]) == ([72, 105], [72, 111])


def test_what_a_model_notes_is_an_item_of_its_own(door: Door) -> None:
    door.sagemaker.replies = stream(
        {"delta": {"reasoning_content": "Hm"}},
        {"delta": {"reasoning_content": "m."}},
        {"delta": {"content": "Hi"}, "finish_reason": "stop"},
    )
    _, body = respond(door, input="x")
    output: list[Any] = OpenAIResponse.model_validate(body).output
    notes, message = output
    assert notes.type == "reasoning"
    assert notes.content is not None
    assert ([part.text for part in notes.content], notes.status) == (["Hmm."], "completed")
    assert message.type == "message"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_notes_that_nobody_checks_do_not_pass_the_guards(make_door: Callable[..., Door], field: str) -> None:
    door = make_door(SETTINGS.model_copy(update={"guards": GuardSettings(mask_pii=True)}))
    door.sagemaker.replies = stream(
        {"delta": {field: "Bob is bob@y.org."}}, {"delta": {"content": "Hi."}, "finish_reason": "stop"}
    )
    _, body = respond(door, input="x")
    assert [item["type"] for item in body["output"]] == ["message"]
    _, streamed = door.ask({"model": MODEL, "messages": [ASK], "stream": True})
    assert b"bob@y.org" not in streamed


def test_a_refusal_of_the_guards_names_what_they_found(make_door: Callable[..., Door]) -> None:
    guards = GuardSettings(denied_topics={"weapons": ["pipe bomb"]})
    door = make_door(SETTINGS.model_copy(update={"guards": guards}))
    status, body = respond(door, input="How is a pipe bomb made?")
    assert (status, body["status"]) == (200, "incomplete")
    assert body["incomplete_details"] == {"reason": "content_filter"}
    assert body["content_filter"].endswith(":weapons")
    assert door.sagemaker.calls == []


def test_guards_mask_what_the_model_reads_and_the_record_is_kept(make_door: Callable[..., Door]) -> None:
    door = make_door(SETTINGS.model_copy(update={"guards": GuardSettings(mask_pii=True)}))
    door.sagemaker.replies = [Reply(parts=cut(chat_events("To [EMAIL_1]."), 50))]
    _, body = respond(door, input="Mail bob@y.org")
    assert sent(door)["messages"][-1]["content"] == "Mail [EMAIL_1]"
    assert OpenAIResponse.model_validate(body).output_text == "To bob@y.org."
    record = door.record()
    assert record is not None
    assert (record["prompt_tokens"], record["finish_reason"], record["status"]) == (5, "stop", 200)


def test_an_unknown_model_and_an_error_of_the_container_keep_their_status(door: Door) -> None:
    reply, text = door.ask({"model": "other", "input": "x"}, route=ROUTE)
    assert (reply.status, json.loads(text)["error"]["code"]) == (404, "model_not_found")

    door.sagemaker.replies = [Reply(parts=[], break_off=True)]
    status, body = respond(door, input="x")
    assert status == 502 or status == 503, body
    assert body["error"]["type"] in ("server_error", "overloaded_error")
