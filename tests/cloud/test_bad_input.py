"""Rubbish through the HTTP door: the OpenAI error object with the right status, and the door stays open."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.laptop import Laptop

HELLO = [{"role": "user", "content": "Hi"}]


def ask(laptop: Laptop, content: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    """One POST of raw bytes to the chat route."""
    given = laptop.headers if headers is None else headers
    return httpx.post(
        f"{laptop.api_url}/chat/completions",
        content=content,
        headers={"Content-Type": "application/json"} | given,
        timeout=120,
    )


def refused(reply: httpx.Response, status: int) -> dict[str, Any]:
    """Asserts an OpenAI error object with this status and returns its inside."""
    assert reply.status_code == status, reply.text
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert error["message"]
    return error


BAD_BODIES = {
    "not_json": (b"{not json", 400, None),
    "empty_body": (b"", 400, None),
    "a_list": (b"[1, 2]", 400, None),
    "invalid_utf8": (b'{"model": "\xff\xfe"}', 400, None),
    "empty_messages": ({"messages": []}, 400, "messages"),
    "no_messages": ({"messages": None}, 400, "messages"),
    "wrong_type": ({"messages": HELLO, "temperature": "warm"}, 400, "temperature"),
    "wrong_role": ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "messages"),
    "max_tokens_zero": ({"messages": HELLO, "max_tokens": 0}, 400, "max_tokens"),
    "max_tokens_huge": ({"messages": HELLO, "max_tokens": 10**9}, 400, "max_tokens"),
    "unknown_field": ({"messages": HELLO, "frobnicate": True}, 400, "frobnicate"),
    "unknown_model": ({"messages": HELLO, "model": "gpt-99"}, 404, "model"),
    "longer_than_context": ({"messages": [{"role": "user", "content": "word " * 20_000}]}, 400, None),
    "two_megabytes": ({"messages": [{"role": "user", "content": "x" * 2_000_000}]}, 413, None),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_bad_body_is_refused_in_the_openai_shape(laptop: Laptop, case: str) -> None:
    body, status, param = BAD_BODIES[case]
    content = body if isinstance(body, bytes) else json.dumps({"model": laptop.model} | body).encode()
    error = refused(ask(laptop, content), status)
    if param:
        assert (error["param"] or "").startswith(param)


@pytest.mark.parametrize("streamed", [False, True])
def test_prompt_longer_than_the_context_names_the_limit(laptop: Laptop, streamed: bool) -> None:
    body = {
        "model": laptop.model,
        "messages": [{"role": "user", "content": "word " * 20_000}],
        "stream": streamed,
    }
    error = refused(ask(laptop, json.dumps(body).encode()), 400)
    assert error["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer eg-wrong"}, {"Authorization": "Basic eA=="}, {"Authorization": "Bearer"}],
)
def test_missing_or_wrong_key_is_refused_with_the_same_answer(
    laptop: Laptop, headers: dict[str, str]
) -> None:
    body = json.dumps({"model": "any", "messages": HELLO}).encode()
    error = refused(ask(laptop, body, headers), 401)
    assert error["type"] == "authentication_error"


def test_unknown_route_is_refused_in_the_openai_shape(laptop: Laptop) -> None:
    reply = httpx.get(f"{laptop.api_url}/nowhere", headers=laptop.headers, timeout=30)
    assert reply.status_code in (403, 404)
    assert reply.json()["error"]["message"]


def test_the_door_still_answers_after_all_that(laptop: Laptop) -> None:
    answer = laptop.openai().chat.completions.create(model=laptop.model, messages=HELLO, max_tokens=3)
    assert answer.choices[0].message.content is not None
