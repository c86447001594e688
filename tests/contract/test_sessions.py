"""Sticky sessions by SageMaker's contract: its headers, its bodies, its refusals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.model_server import ServerProcess, chat

ID = "X-Amzn-SageMaker-Session-Id"
OPENED = "X-Amzn-SageMaker-New-Session-Id"
CLOSED = "X-Amzn-SageMaker-Closed-Session-Id"


@pytest.fixture(scope="module")
def sticky(tiny_model: Path) -> Iterator[ServerProcess]:
    """A server with sessions turned on."""
    variables = {"SAGEMAKER_ENABLE_STATEFUL_SESSIONS": "true", "EVERGREEN_MAX_SESSIONS": "3"}
    with ServerProcess(tiny_model, **variables) as process:
        yield process.wait_ready()


def post(server: ServerProcess, body: dict[str, Any], session: str | None = None) -> httpx.Response:
    headers = {ID: session} if session else {}
    return httpx.post(f"{server.url}/invocations", json=body, headers=headers, timeout=60)


def opened(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    value = reply.headers[OPENED]
    match = re.fullmatch(r"([0-9a-f-]{36}); Expires=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value)
    assert match, value
    return match[1]


def test_a_session_is_opened_used_and_closed(sticky: ServerProcess) -> None:
    session = opened(post(sticky, {"requestType": "NEW_SESSION"}, "NEW_SESSION"))

    used = post(sticky, chat(), session)
    assert used.status_code == 200
    assert CLOSED not in used.headers
    assert used.json()["choices"]
    assert sticky.line(message="request", session=session)

    closed = post(sticky, {"requestType": "CLOSE"}, session)
    assert closed.status_code == 200
    assert closed.headers[CLOSED] == session

    gone = post(sticky, chat(), session)
    assert (gone.status_code, gone.json()["error"]["code"]) == (400, "session_not_found")


def test_a_request_may_open_a_session_along_with_its_answer(sticky: ServerProcess) -> None:
    reply = post(sticky, chat(), "NEW_SESSION")
    assert reply.json()["choices"]
    post(sticky, {"requestType": "CLOSE"}, opened(reply)).raise_for_status()


def test_there_is_a_limit(sticky: ServerProcess) -> None:
    sessions = [opened(post(sticky, {"requestType": "NEW_SESSION"})) for _ in range(3)]
    full = post(sticky, {"requestType": "NEW_SESSION"})
    assert (full.status_code, full.json()["error"]["code"]) == (503, "session_limit")
    for session in sessions:
        post(sticky, {"requestType": "CLOSE"}, session).raise_for_status()


def test_sessions_are_off_unless_asked_for(client: httpx.Client) -> None:
    reply = client.post("/invocations", json={"requestType": "NEW_SESSION"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "sessions_off")
    assert "SAGEMAKER_ENABLE_STATEFUL_SESSIONS" in reply.json()["error"]["message"]
