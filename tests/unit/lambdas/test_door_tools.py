"""Tool calls, several answers and log probabilities on their way through the door, guards included."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from contracts.chat import ChatCompletion
from contracts.guards import GuardSettings
from tests.support.fake_model_endpoint import Reply, cut
from tests.support.front_door import SETTINGS, Door, chat, events

TOOL = {
    "type": "function",
    "function": {
        "name": "mail",
        "description": "Writes.",
        "parameters": {"type": "object", "properties": {}},
    },
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
LOGPROB = {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}


def stream(*choices: dict[str, Any]) -> list[Reply]:
    """A container's stream of these choices, one per chunk."""
    base = {"id": "x", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    chunks = [{**base, "choices": [{"index": 0, "finish_reason": None, **choice}]} for choice in choices]
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return [Reply(parts=cut("".join([*lines, "data: [DONE]\n\n"]).encode(), 40))]


def call_of(arguments: str, **first: Any) -> dict[str, Any]:
    return {
        "delta": {
            "tool_calls": [
                {
                    "index": 0,
                    **first,
                    "function": {"arguments": arguments, **({"name": "mail"} if first else {})},
                }
            ]
        }
    }


CALL = (
    call_of('{"to": ', id="call_1", type="function"),
    call_of('"bob@y.org"}'),
    {"delta": {}, "finish_reason": "tool_calls"},
)


@pytest.fixture
def guarded(make_door: Callable[..., Door]) -> Door:
    """A door that masks personal data and denies a topic."""
    guards = GuardSettings(mask_pii=True, denied_topics={"weapons": ["pipe bomb"]})
    return make_door(SETTINGS.model_copy(update={"guards": guards}))


def test_what_a_chat_asks_for_reaches_the_container(door: Door) -> None:
    asked = {
        "n": 2,
        "logprobs": True,
        "top_logprobs": 3,
        "tools": [TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    door.ask(chat(**asked))
    sent = json.loads(door.sagemaker.calls[-1][1])
    assert {name: sent[name] for name in asked} == asked

    door.ask(chat(response_format=FORMAT))
    assert json.loads(door.sagemaker.calls[-1][1])["response_format"] == FORMAT


def test_a_hostile_schema_goes_no_further(door: Door) -> None:
    endless = {**FORMAT, "json_schema": {"name": "a", "strict": True, "schema": {"$ref": "#"}}}
    status, error = door.error(chat(response_format=endless))
    assert (status, error["param"]) == (400, "response_format.json_schema.schema")
    assert door.sagemaker.calls == []


def test_calls_pass_streamed_and_whole(door: Door) -> None:
    door.sagemaker.replies = stream(*CALL)
    _, body = door.ask(chat(stream=True, tools=[TOOL]))
    deltas = [d for c in events(body)[:-1] for d in c["choices"][0]["delta"].get("tool_calls", [])]
    assert "".join(delta["function"]["arguments"] for delta in deltas) == '{"to": "bob@y.org"}'

    _, body = door.ask(chat(tools=[TOOL]))
    choice = ChatCompletion.model_validate_json(body).choices[0]
    assert choice.message.content is None
    [call] = choice.message.tool_calls or []
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "mail", '{"to": "bob@y.org"}')
    assert choice.finish_reason == "tool_calls"


def test_several_answers_and_log_probabilities_pass(door: Door) -> None:
    door.sagemaker.replies = stream(
        {"delta": {"content": "Hi"}, "logprobs": {"content": [LOGPROB]}},
        {"index": 1, "delta": {"content": "Ho"}},
        {"index": 1, "delta": {}, "finish_reason": "length"},
        {"delta": {}, "finish_reason": "stop"},
    )
    _, body = door.ask(chat(n=2, logprobs=True))
    first, second = ChatCompletion.model_validate_json(body).choices
    assert (first.message.content, second.message.content) == ("Hi", "Ho")
    assert (first.finish_reason, second.finish_reason) == ("stop", "length")
    assert first.logprobs is not None
    assert [entry.logprob for entry in first.logprobs.content or []] == [-0.1]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_arguments_of_a_call_are_guarded(guarded: Door, streamed: bool) -> None:
    guarded.sagemaker.replies = stream(
        call_of('{"to": "[EMA', id="call_1", type="function"),
        call_of('IL_1]", "cc": "bob@y.org"}'),
        {"delta": {}, "finish_reason": "tool_calls"},
    )
    _, body = guarded.ask(chat("I am ann@x.org", tools=[TOOL], stream=streamed))
    if streamed:
        [call] = [d for c in events(body)[:-1] for d in c["choices"][0]["delta"].get("tool_calls", [])]
        assert (call["index"], call["id"]) == (0, "call_1")
    else:
        [call] = json.loads(body)["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"to": "ann@x.org", "cc": "[EMAIL]"}


def test_a_denied_call_is_not_made(guarded: Door) -> None:
    guarded.sagemaker.replies = stream(
        call_of('{"to": "a pipe bomb"}', id="call_1", type="function"),
        {"delta": {}, "finish_reason": "tool_calls"},
    )
    _, body = guarded.ask(chat(tools=[TOOL]))
    choice = json.loads(body)["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["tool_calls"] is None


def test_several_answers_are_guarded_each_by_itself(guarded: Door) -> None:
    guarded.sagemaker.replies = stream(
        {"delta": {"content": "Ask b"}},
        {"index": 1, "delta": {"content": "A pipe "}},
        {"delta": {"content": "ob@y.org."}},
        {"delta": {}, "finish_reason": "stop"},
        {"index": 1, "delta": {"content": "bomb."}, "finish_reason": "stop"},
    )
    _, body = guarded.ask(chat(n=2))
    first, second = json.loads(body)["choices"]
    assert (first["message"]["content"], first["finish_reason"]) == ("Ask [EMAIL].", "stop")
    assert (second["message"]["content"], second["finish_reason"]) == ("", "content_filter")


def test_what_went_before_is_masked_in_calls_and_results(guarded: Door) -> None:
    request = chat("Go on", tools=[TOOL])
    call = {"id": "c", "type": "function", "function": {"name": "mail", "arguments": '{"to": "ann@x.org"}'}}
    request["messages"] += [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "ann@x.org has it"},
    ]
    guarded.ask(request)
    _, asked, answered = json.loads(guarded.sagemaker.calls[-1][1])["messages"]
    assert asked["tool_calls"][0]["function"]["arguments"] == '{"to": "[EMAIL_1]"}'
    assert answered["content"] == "[EMAIL_1] has it"


def test_log_probabilities_would_undo_the_guards(guarded: Door) -> None:
    status, error = guarded.error(chat(logprobs=True))
    assert (status, error["param"], error["code"]) == (400, "logprobs", "unsupported_with_guards")
    assert guarded.sagemaker.calls == []


def test_a_refused_prompt_refuses_every_answer(guarded: Door) -> None:
    _, body = guarded.ask(chat("How do I build a pipe bomb?", n=3))
    choices = json.loads(body)["choices"]
    assert [(c["index"], c["finish_reason"]) for c in choices] == [(i, "content_filter") for i in range(3)]
