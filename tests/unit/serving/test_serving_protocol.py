"""Requests are parsed strictly, and errors name the field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contracts.chat import ChatRequest
from contracts.completions import CompletionRequest
from model_code.serving.errors import ServingError
from model_code.serving.protocol.parsing import parse

FUNCTION = {"type": "function", "function": {"name": "f"}}


def error_of(kind: type[ChatRequest] | type[CompletionRequest], body: bytes) -> dict[str, Any]:
    with pytest.raises(ServingError) as caught:
        parse(kind, body)
    return dict(json.loads(caught.value.body)["error"])


def test_a_refusal_never_repeats_the_callers_text() -> None:
    body = b'{"model": "m", "messages": [{"role": "user", "content": {"secret": "4711"}}]}'
    error = error_of(ChatRequest, body)
    assert "4711" not in error["message"]
    assert error["param"] == "messages[0].content"


def test_an_unknown_field_is_named_where_each_field_has_a_meaning() -> None:
    message = {"role": "user", "content": "x", "mood": 1}
    body = json.dumps({"model": "m", "messages": [message], "stream_options": {"a": 1}}).encode()
    assert error_of(ChatRequest, body)["param"] == "stream_options.a"


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"n": 99}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "strict": True, "schema": {"not": {}}},
                }
            },
            "response_format.json_schema.schema",
        ),
        ({"tools": []}, "tools"),
        ({"tools": [FUNCTION, FUNCTION]}, "tools"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
        ),
        ({"messages": [{"role": "tool", "content": "4"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "4", "tool_calls": []}]}, "messages[0]"),
    ],
    ids=str,
)
def test_what_a_chat_asks_for_wrongly_is_named(fields: dict[str, Any], place: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    error = error_of(ChatRequest, json.dumps(body).encode())
    assert error["param"] == place
    assert "Value error" not in error["message"]


@pytest.mark.parametrize(
    "field",
    [
        {"logprobs": 6},
        {"echo": 1},
        {"best_of": 2},
        {"suffix": "x"},
        {"n": 0},
        {"max_tokens": 0},
        {"prompt": []},
        {"prompt": ["a", ""]},
        {"prompt": [[1], []]},
        {"prompt": [[1], "a"]},
        {"prompt": [1, "a"]},
        {"prompt": [-1]},
        {"prompt": {"a": 1}},
    ],
    ids=str,
)
def test_what_a_completion_cannot_do_is_named(field: dict[str, Any]) -> None:
    body = {"model": "m", "prompt": "x", **field}
    param = error_of(CompletionRequest, json.dumps(body).encode())["param"]
    assert param.split("[")[0] == next(iter(field))


def test_neutral_values_are_no_requests() -> None:
    body = {"model": "m", "prompt": "x", "echo": False, "best_of": 1, "suffix": None, "logprobs": None}
    assert parse(CompletionRequest, json.dumps(body).encode()).answers == 1


def test_the_retry_hint_is_in_header_and_message() -> None:
    error = ServingError("overloaded_error", "Busy.", retry_after=2)
    assert error.headers == [(b"retry-after", b"2")]
    assert error.status == 503


def test_a_request_without_a_model_means_the_one_that_is_served() -> None:
    body = b'{"messages": [{"role": "user", "content": "x"}]}'
    assert parse(ChatRequest, body, model="own").model == "own"
    assert error_of(ChatRequest, body)["code"] == "missing_parameter"
    with pytest.raises(ServingError, match="messages"):
        parse(ChatRequest, b"{}", model="own")
