"""Bad requests through the whole pipeline: each is refused by name and never reaches the model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from contracts import metrics
from tests.support.front_door import MODEL, Door, chat, emitted


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
            "messages[0].content",
            "invalid_value",
            id="content is a number",
        ),
        pytest.param(
            {"model": MODEL, "messages": [{"role": "boss", "content": "x"}]},
            400,
            "messages[0].role",
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
