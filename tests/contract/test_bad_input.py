"""Every wrong request gets OpenAI's error object with the right status, and the server lives on."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.model_server import CONTEXT_TOKENS, Client, chat, refused

USER = {"role": "user", "content": "x"}
MEBIBYTE = 1024 * 1024
BARELY_TOO_LONG = "word " * (CONTEXT_TOKENS + 50)
TOO_LONG = "context_length_exceeded"

BODIES: dict[str, tuple[bytes, int, str, str | None]] = {
    "empty": (b"", 400, "invalid_json", None),
    "not JSON": (b"hello", 400, "invalid_json", None),
    "cut off": (b'{"model": "tiny", "messa', 400, "invalid_json", None),
    "a list": (b"[]", 400, "invalid_value", None),
    "null": (b"null", 400, "invalid_value", None),
    "invalid UTF-8": (b'{"model": "tiny\xff"}', 400, "invalid_utf8", None),
    "lone surrogate": (rb'{"model": "\ud800"}', 400, "invalid_json", None),
    "nested without end": (b'{"model": ' + b"[" * 100_000, 400, "invalid_json", None),
    "larger than the service takes": (b" " * (6 * MEBIBYTE + 1), 413, "request_too_large", None),
}

FIELDS: dict[str, tuple[dict[str, Any], int, str, str | None]] = {
    "model of another type": ({"model": 3}, 400, "invalid_value", "model"),
    "unknown model": ({"model": "gpt-x"}, 404, "model_not_found", "model"),
    "no messages": ({"messages": None}, 400, "missing_parameter", "messages"),
    "empty messages": ({"messages": []}, 400, "invalid_value", "messages"),
    "messages a string": ({"messages": "hi"}, 400, "invalid_value", "messages"),
    "message a string": ({"messages": ["hi"]}, 400, "invalid_value", "messages[0]"),
    "unknown role": (
        {"messages": [{"role": "king", "content": "x"}]}, 400, "invalid_value", "messages[0].role"
    ),
    "no content": ({"messages": [{"role": "user"}]}, 400, "invalid_value", "messages[0]"),
    "content a number": (
        {"messages": [{"role": "user", "content": 1}]}, 400, "invalid_value", "messages[0].content"
    ),
    "unknown field": ({"frequency": 1}, 400, "unknown_parameter", "frequency"),
    "max_tokens 0": ({"max_tokens": 0}, 400, "invalid_value", "max_tokens"),
    "max_tokens negative": ({"max_tokens": -1}, 400, "invalid_value", "max_tokens"),
    "max_tokens a string": ({"max_tokens": "8"}, 400, "invalid_value", "max_tokens"),
    "max_tokens beyond the context": ({"max_tokens": 100_000}, 400, TOO_LONG, "messages"),
    "max_tokens absurd": ({"max_tokens": 10**30}, 400, "invalid_value", "max_tokens"),
    "temperature too high": ({"temperature": 2.5}, 400, "invalid_value", "temperature"),
    "top_p zero": ({"top_p": 0}, 400, "invalid_value", "top_p"),
    "penalty too strong": ({"presence_penalty": 2.1}, 400, "invalid_value", "presence_penalty"),
    "penalty of another type": ({"frequency_penalty": "1"}, 400, "invalid_value", "frequency_penalty"),
    "too many stops": ({"stop": ["a", "b", "c", "d", "e"]}, 400, "invalid_value", "stop"),
    "no answers": ({"n": 0}, 400, "invalid_value", "n"),
    "too many answers": ({"n": 100}, 400, "invalid_value", "n"),
    "stream a string": ({"stream": "yes"}, 400, "invalid_value", "stream"),
    "a prompt of 2 MB": (
        {"messages": [{"role": "user", "content": "word " * 400_000}]}, 400, TOO_LONG, "messages"
    ),
    "a prompt just too long": (
        {"messages": [{"role": "user", "content": BARELY_TOO_LONG}]}, 400, TOO_LONG, "messages"
    ),
}  # fmt: skip


def expect(client: Client, reply: httpx.Response, status: int, code: str, param: str | None) -> None:
    error = refused(client, reply, status)
    if error is not None:
        assert (error.code, error.param) == (code, param)
        assert error.message
        assert "\n" not in error.message


@pytest.mark.parametrize("case", BODIES)
def test_a_malformed_body_is_refused(client: Client, case: str) -> None:
    body, *expected = BODIES[case]
    expect(client, client.post("/invocations", content=body), *expected)
    assert client.get("/ping").status_code == 200


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("case", FIELDS)
def test_a_wrong_field_is_refused_by_name(client: Client, case: str, streamed: bool) -> None:
    fields, *expected = FIELDS[case]
    body = {"stream": streamed, **chat(**fields)}
    expect(client, client.post("/invocations", content=json.dumps(body)), *expected)


def test_not_a_number_is_no_temperature(client: Client) -> None:
    body = b'{"model":"tiny","messages":[{"role":"user","content":"x"}],"temperature":NaN}'
    expect(client, client.post("/invocations", content=body), 400, "invalid_value", "temperature")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/invocations", 405), ("POST", "/ping", 405), ("GET", "/nowhere", 404)],
)
def test_unknown_routes_have_the_same_error_shape(
    client: Client, method: str, path: str, status: int
) -> None:
    expect(client, client.request(method, path), status, "unknown_route", None)
