"""Hostile bodies: whatever arrives, the answer is no server error and the server lives."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.model_server import Client, chat, refused

SETTINGS = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=12,
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]) | JSON,
        "content": st.text(max_size=200) | JSON,
        "name": JSON,
        "tool_calls": JSON,
        "tool_call_id": st.text(max_size=8) | JSON,
    },
)
KEYWORDS = [
    "type",
    "properties",
    "items",
    "enum",
    "anyOf",
    "$ref",
    "$defs",
    "pattern",
    "maxLength",
    "minimum",
]
SCHEMA = st.recursive(
    st.sampled_from(["object", "array", "string", "integer", "#", "#/$defs/a", "^a{2,9}$", 3]) | JSON,
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from([*KEYWORDS, "a"]) | st.text(max_size=4), children, max_size=4)
    ),
    max_leaves=12,
)
FUNCTION = st.fixed_dictionaries({}, optional={"name": st.just("f") | JSON, "parameters": SCHEMA})
TOOLS = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": FUNCTION}), max_size=3)
FORMAT = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "json_object", "json_schema"])},
    optional={"json_schema": st.fixed_dictionaries({"name": st.just("a")}, optional={"schema": SCHEMA})},
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(MESSAGE, max_size=4) | JSON,
        "max_tokens": st.integers(-2, 6) | JSON,
        "temperature": st.floats(0, 2) | JSON,
        "top_p": st.floats(0, 1) | JSON,
        "presence_penalty": st.floats(-2, 2) | JSON,
        "frequency_penalty": st.floats(-2, 2) | JSON,
        "stop": st.lists(st.text(max_size=4), max_size=4) | JSON,
        "seed": st.integers() | JSON,
        "stream": st.booleans() | JSON,
        "stream_options": JSON,
        "user": JSON,
        "n": st.integers(-1, 3) | JSON,
        "logprobs": st.booleans() | JSON,
        "top_logprobs": st.integers(-1, 21) | JSON,
        "response_format": FORMAT | JSON,
        "tools": TOOLS | JSON,
        "tool_choice": st.sampled_from(["none", "auto", "required"]) | JSON,
        "parallel_tool_calls": JSON,
    },
)


def check(client: Client, body: bytes) -> None:
    reply = client.post("/invocations", content=body)
    assert reply.status_code < 500, (body, reply.text)
    if reply.status_code >= 400:
        error = refused(client, reply, reply.status_code)
        assert error is None or error.message
    assert client.get("/ping").status_code == 200


@SETTINGS
@given(body=st.binary(max_size=400))
def test_any_bytes(client: Client, body: bytes) -> None:
    check(client, body)


@SETTINGS
@given(fields=FIELDS)
def test_any_json_in_any_field(client: Client, fields: dict[str, object]) -> None:
    body = chat(max_tokens=2) | fields
    check(client, json.dumps(body).encode("utf-8", "surrogatepass"))


@SETTINGS
@given(text=st.text(max_size=400))
def test_any_text_as_prompt(client: Client, text: str) -> None:
    body = json.dumps(chat(messages=[{"role": "user", "content": text}], max_tokens=2))
    check(client, body.encode("utf-8", "surrogatepass"))


@SETTINGS
@given(schema=st.dictionaries(st.sampled_from(KEYWORDS), SCHEMA, min_size=1, max_size=4))
def test_any_schema(client: Client, schema: dict[str, object]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    check(client, json.dumps(chat(response_format=form, max_tokens=2)).encode("utf-8", "surrogatepass"))
