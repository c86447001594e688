"""The caller's own deadline on its way to the container, and what pages in a browser may read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from contracts.container import decode_attributes
from lambdas.pipeline.operations import CHAT
from lambdas.pipeline.request import IncomingRequest
from lambdas.runtime.cors import cors_headers
from tests.support.front_door import AUTHORIZER, SETTINGS, Door, chat


def sent_timeout(door: Door, header: str | None, deadline_in: float | None = None) -> int | None:
    now = time.time()
    deadline = None if deadline_in is None else int((now + deadline_in) * 1000)
    headers = {} if header is None else {"x-request-timeout": header}
    incoming = IncomingRequest("r", json.dumps(chat()).encode(), AUTHORIZER, headers, None, now, deadline)
    reply = door.service.answer(CHAT.route, incoming)
    b"".join(reply.body)
    reply.after()
    assert reply.status == 200
    attributes = decode_attributes(door.sagemaker.calls[-1][0]["x-amzn-sagemaker-custom-attributes"])
    return int(attributes["timeout_ms"]) if "timeout_ms" in attributes else None


@pytest.mark.parametrize(
    ("header", "deadline_in", "lowest", "highest"),
    [
        ("60", None, 1, 60_000),
        ("60", 600, 1, 60_000),  # the sooner of the two
        ("600", 90, 1, 88_000),
        ("59.5", None, 1, 59_500),
    ],
)
def test_the_model_hears_how_long_the_caller_waits(
    door: Door, header: str, deadline_in: float | None, lowest: int, highest: int
) -> None:
    told = sent_timeout(door, header, deadline_in)
    assert told is not None
    assert lowest <= told <= highest


def test_a_caller_who_says_nothing_waits_as_long_as_the_function(door: Door) -> None:
    assert sent_timeout(door, None) is None


@pytest.mark.parametrize("text", ["", "0", "-1", "901", "nan", "inf", "soon", "1e400", "1,5"])
def test_what_is_no_time_is_refused(door: Door, text: str) -> None:
    reply, body = door.ask(chat(), headers={"x-request-timeout": text})
    error = json.loads(body)["error"]
    assert (reply.status, error["param"]) == (400, "x-request-timeout")
    assert door.sagemaker.calls == []


def test_nobody_is_asked_for_a_caller_who_has_stopped_waiting(door: Door) -> None:
    # Doors in tests say that requests arrived in 2023.
    reply, body = door.ask(chat(), headers={"x-request-timeout": "5"})
    assert (reply.status, json.loads(body)["error"]["code"]) == (504, "model_timeout")
    assert door.sagemaker.calls == []


def test_a_page_may_read_what_its_origin_is_allowed(make_door: Callable[..., Door]) -> None:
    door = make_door(SETTINGS.model_copy(update={"cors_origins": ["https://app.example.com"]}))
    reply, _ = door.ask(chat(), headers={"origin": "https://app.example.com"})
    assert reply.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "x-ratelimit-remaining-tokens" in reply.headers["access-control-expose-headers"]
    refused, _ = door.ask(b"{", headers={"origin": "https://app.example.com"})
    assert (refused.status, refused.headers["vary"]) == (400, "Origin")
    for headers in ({}, {"origin": "https://evil.example.com"}):
        reply, _ = door.ask(chat(), headers=headers)
        assert "access-control-allow-origin" not in reply.headers


def test_every_origin_is_a_choice_too() -> None:
    assert cors_headers("https://x.example", ["*"])["access-control-allow-origin"] == "https://x.example"
    assert cors_headers(None, ["*"]) == {}
