"""Answers held to a form: JSON, a schema, a call of a tool. The model is random; only the form is right."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from contracts.chat import ChatCompletion, Choice
from tests.support.model_server import ServerProcess, chat, events, streamed_text
from tests.support.tool_schemas import ALL
from tests.unit.serving.test_json_schema import BAD

ROOM = 400
PERSON = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["cat", "dog"]},
        "age": {"type": "integer", "minimum": 3, "maximum": 12},
        "code": {"type": "string", "pattern": "^[a-c]{2}-[0-9]{3}$"},
        "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
        "of": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/owner"}]},
    },
    "required": ["kind", "age", "code", "tags", "of"],
    "additionalProperties": False,
    "$defs": {"owner": {"type": "object", "properties": {"on": {"const": True}}, "required": ["on"]}},
}
DIGIT = {
    "type": "object",
    "properties": {"digit": {"enum": [1, 2, 3]}},
    "required": ["digit"],
}
TOOLS = [
    {"type": "function", "function": {"name": "first", "parameters": DIGIT}},
    {
        "type": "function",
        "function": {
            "name": "second",
            "description": "Takes nothing.",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]
LONG_TEXT = {"type": "string", "minLength": 900, "maxLength": 1000}
TREE = {key: {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "string"}]} for key in "abcdefgh"}
LISTS = {
    f"list{i}": {"type": "array", "minItems": 2, "maxItems": 200, "items": {"$ref": f"#/$defs/list{i + 1}"}}
    for i in range(14)
}
HEAVY: dict[str, dict[str, Any]] = {
    "many values": {"enum": [f"value-{number}-{'x' * (number % 40)}" for number in range(400)]},
    "many properties": {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(300)}},
    "long texts": {"type": "array", "items": LONG_TEXT, "maxItems": 250},
    "counted patterns": {"type": "string", "pattern": "^(([a-z]{1,16}){1,8}-){1,4}$"},
    "lists of lists": {"$defs": {**LISTS, "list14": {"type": "null"}}, "$ref": "#/$defs/list0"},
    "a tree of trees": {"$defs": {"tree": {"type": "object", "properties": TREE}}, "$ref": "#/$defs/tree"},
    "never ending": {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]},
}


def held_to(schema: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "form", "schema": schema, **fields}}


def ask(client: httpx.Client, **fields: Any) -> Choice:
    reply = client.post("/invocations", json=chat(**{"max_tokens": ROOM, **fields}))
    assert reply.status_code == 200, reply.text
    return ChatCompletion.model_validate(reply.json()).choices[0]


def check_person(text: str) -> None:
    person = json.loads(text)
    assert list(person) == ["kind", "age", "code", "tags", "of"]
    assert person["kind"] in {"cat", "dog"}
    assert 3 <= person["age"] <= 12
    letters, digits = person["code"].split("-")
    assert set(letters) <= set("abc")
    assert digits.isdecimal()
    assert (len(letters), len(digits)) == (2, 3)
    assert 1 <= len(person["tags"]) <= 2
    assert all(isinstance(tag, bool) for tag in person["tags"])
    assert person["of"] in (None, {"on": True})


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0, "frequency_penalty": 2},
        {"seed": 1, "temperature": 1.5},
        {"seed": 2, "top_p": 0.9, "presence_penalty": 1},
    ],
    ids=str,
)
def test_an_answer_keeps_to_its_schema(client: httpx.Client, fields: dict[str, Any]) -> None:
    choice = ask(client, response_format=held_to(PERSON), **fields)
    assert choice.finish_reason == "stop"
    check_person(choice.message.content or "")


def test_a_streamed_answer_keeps_to_it_too(client: httpx.Client) -> None:
    body = chat(stream=True, max_tokens=ROOM, seed=5, response_format=held_to(PERSON))
    with client.stream("POST", "/invocations", json=body) as reply:
        check_person(streamed_text(events(reply)))


def test_any_object_is_an_object(client: httpx.Client) -> None:
    content = ask(client, max_tokens=40, response_format={"type": "json_object"}).message.content or ""
    assert content.startswith("{")


def test_free_and_held_answers_share_a_batch(client: httpx.Client) -> None:
    free = ask(client, max_tokens=24, temperature=0).message.content
    body = chat(stream=True, max_tokens=ROOM, seed=3, response_format=held_to(PERSON))
    with client.stream("POST", "/invocations", json=body) as reply:
        lines = reply.iter_lines()
        first = next(lines)
        assert ask(client, max_tokens=24, temperature=0).message.content == free
        rest = [line for line in lines if line.startswith("data: {")]
    chunks = [json.loads(line.removeprefix("data: ")) for line in [first, *rest]]
    check_person(streamed_text(chunks))


def test_a_required_call_comes_however_weak_the_model(client: httpx.Client) -> None:
    names = set()
    for seed in range(4):
        choice = ask(client, tools=TOOLS, tool_choice="required", seed=seed)
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        [call] = choice.message.tool_calls or []
        arguments = json.loads(call.function.arguments)
        assert arguments == {} if call.function.name == "second" else arguments["digit"] in {1, 2, 3}
        names.add(call.function.name)
    assert names <= {"first", "second"}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_named_function_is_the_one_called(client: httpx.Client, streamed: bool) -> None:
    choice = {"type": "function", "function": {"name": "first"}}
    fields = {"tools": TOOLS, "tool_choice": choice, "seed": 3, "max_tokens": ROOM}
    if not streamed:
        [call] = ask(client, **fields).message.tool_calls or []
        name, arguments = call.function.name, call.function.arguments
    else:
        with client.stream("POST", "/invocations", json=chat(stream=True, **fields)) as reply:
            chunks = [chunk["choices"][0] for chunk in events(reply)]
        deltas = [delta for chunk in chunks for delta in chunk["delta"].get("tool_calls", [])]
        name = deltas[0]["function"]["name"]
        assert deltas[0]["id"].startswith("call_")
        arguments = "".join(delta["function"]["arguments"] for delta in deltas)
        assert chunks[-1]["finish_reason"] == "tool_calls"
    assert name == "first"
    assert json.loads(arguments)["digit"] in {1, 2, 3}


def test_a_conversation_with_calls_goes_on(client: httpx.Client) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "first", "arguments": '{"digit": 1}'}}
    messages = [
        {"role": "user", "content": "Roll."},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "4"},
    ]
    assert ask(client, messages=messages, tools=TOOLS, max_tokens=8).finish_reason == "length"


def test_tools_that_may_not_be_called_change_nothing(client: httpx.Client) -> None:
    plain = ask(client, max_tokens=16, temperature=0).message.content
    assert ask(client, max_tokens=16, temperature=0, tools=TOOLS, tool_choice="none").message.content == plain


@pytest.mark.parametrize("case", BAD)
def test_a_schema_that_is_not_supported_is_one_clear_error(client: httpx.Client, case: str) -> None:
    body = json.dumps(chat(response_format=held_to(BAD[case][0], strict=True)))
    reply = client.post("/invocations", content=body)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith("response_format")
    assert "\n" not in error["message"]


ENDS: dict[str, dict[str, Any]] = {
    "an open map": {
        "type": "object",
        "properties": {"m": {"type": "object", "additionalProperties": {"enum": [1, 2]}}},
        "required": ["m"],
        "additionalProperties": False,
    },
    "an integer": {"type": "object", "properties": {"c": {"type": "integer"}}, "required": ["c"]},
    "an integer or null": {
        "type": "object",
        "properties": {"c": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        "required": ["c"],
    },
    "a number": {"type": "object", "properties": {"c": {"type": "number"}}, "required": ["c"]},
    "bounds of a number": {"type": "number", "minimum": -0.75, "maximum": 12.5},
    "bounds of an integer": {"type": "integer", "minimum": -117, "maximum": 2045},
    "a tuple": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}], "maxItems": 2},
    "multiples": {"type": "integer", "multipleOf": 5, "minimum": 0},
    "a day": {"type": "string", "format": "date"},
    "an id": {"type": "string", "format": "uuid"},
    "a pattern": {"type": "string", "pattern": "^[A-Z]{2}\\d{1,4}$"},
    "values with an inside": {"enum": [{"a": [1, 2]}, ["x"], None]},
    "no properties": {"type": "object", "properties": {}},
    "one of several": {"oneOf": [{"type": "integer"}, {"type": "boolean"}]},
}


@pytest.mark.parametrize("case", ENDS)
def test_an_answer_ends_and_keeps_to_its_schema(client: httpx.Client, case: str) -> None:
    """No blanks and no digits without end, whatever a random model would write."""
    checker = Draft202012Validator.FORMAT_CHECKER
    for seed in range(3):
        choice = ask(client, response_format=held_to(ENDS[case]), seed=seed, max_tokens=ROOM)
        text = choice.message.content or ""
        layout = re.sub(r'"(?:\\.|[^"\\])*"?', "", text)  # what stands between the texts
        assert "  " not in layout
        assert re.search(r"\d{18}", text) is None
        if case == "an open map" and choice.finish_reason == "length":
            continue  # as many keys as there was room for
        assert choice.finish_reason == "stop"
        Draft202012Validator(ENDS[case], format_checker=checker).validate(json.loads(text))


def test_a_function_without_parameters_takes_none(client: httpx.Client) -> None:
    tools = [{"type": "function", "function": {"name": "now"}}]
    choice = ask(client, tools=tools, tool_choice="required", seed=1)
    [call] = choice.message.tool_calls or []
    assert (call.function.name, call.function.arguments) == ("now", "{}")


@pytest.mark.parametrize("streamed", [False, True])
def test_beside_tools_a_format_is_kept_or_a_tool_is_called(client: httpx.Client, streamed: bool) -> None:
    answer = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    seen = set()
    for seed in range(8):
        fields = {"tools": TOOLS, "response_format": held_to(answer), "seed": seed, "temperature": 2}
        if streamed:
            with client.stream(
                "POST", "/invocations", json=chat(stream=True, max_tokens=ROOM, **fields)
            ) as reply:
                chunks = [chunk["choices"][0] for chunk in events(reply)]
            text = "".join(chunk["delta"].get("content") or "" for chunk in chunks)
            calls = [each for chunk in chunks for each in chunk["delta"].get("tool_calls", [])]
            named = [each["function"].get("name") for each in calls]  # vLLM sends a call in pieces
            names, reason = [name for name in named if name], chunks[-1]["finish_reason"]
        else:
            choice = ask(client, **fields)
            text, reason = choice.message.content or "", choice.finish_reason or ""
            names = [call.function.name for call in choice.message.tool_calls or []]
        if names:
            assert (text, reason) == ("", "tool_calls")
            assert set(names) <= {"first", "second"}
        else:
            assert (json.loads(text)["yes"], reason) in [(True, "stop"), (False, "stop")]
        seen.add(bool(names))
    assert seen == {True, False}


@pytest.mark.parametrize(
    "name", ["pydantic deep", "pydantic looks ahead", "zod regex", "zod json", "zod tree"]
)
def test_any_tool_may_be_forced(client: httpx.Client, name: str) -> None:
    parameters = ALL[name]
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    choice = ask(client, tools=tools, tool_choice="required", max_tokens=60)
    assert [call.function.name for call in choice.message.tool_calls or []] == ["f"]


@pytest.mark.parametrize("case", HEAVY)
def test_a_heavy_schema_costs_little_and_the_server_lives(
    server: ServerProcess, client: httpx.Client, case: str
) -> None:
    """What is allowed is answered or refused within seconds: nothing explodes, and others are served."""
    began = time.monotonic()
    reply = client.post("/invocations", json=chat(max_tokens=20, response_format=held_to(HEAVY[case])))
    assert reply.status_code in {200, 400}, reply.text
    assert time.monotonic() - began < 60
    assert server.ping() == 200
    assert ask(client, max_tokens=2).message.content is not None
