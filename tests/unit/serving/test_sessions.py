"""Sessions: their time, their limit, and what is no request about one."""

from __future__ import annotations

import json

import pytest

from contracts import container
from model_code.serving.errors import ServingError
from model_code.serving.http.sessions import SessionReply, Sessions

NEW = json.dumps({"requestType": "NEW_SESSION"}).encode()
CLOSE = json.dumps({"requestType": "CLOSE"}).encode()


class Clock:
    """A time that stands still until it is moved."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock to move."""
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    """At most two sessions of a minute each."""
    return Sessions(enabled=True, seconds=60, limit=2, clock=clock)


def opened(reply: SessionReply | None) -> str:
    assert reply is not None
    assert reply.header == container.HEADER_NEW_SESSION
    return reply.value.partition(";")[0]


def code_of(sessions: Sessions, session: str | None, body: bytes) -> str | None:
    with pytest.raises(ServingError) as refused:
        sessions.handle(session, body)
    return refused.value.code


def test_the_service_is_told_when_a_session_ends(sessions: Sessions) -> None:
    reply = sessions.handle(None, NEW)
    assert reply is not None
    assert reply.value.endswith("; Expires=2027-01-15T08:01:00Z")


def test_a_session_ends_at_its_time_used_or_not(sessions: Sessions, clock: Clock) -> None:
    session = opened(sessions.handle(None, NEW))
    clock.now += 59
    assert sessions.handle(session, b"{}") is None
    clock.now += 2
    assert code_of(sessions, session, b"{}") == "session_not_found"
    assert len(sessions) == 0


def test_ended_sessions_make_room(sessions: Sessions, clock: Clock) -> None:
    opened(sessions.handle(None, NEW))
    opened(sessions.handle(None, NEW))
    assert code_of(sessions, None, NEW) == "session_limit"
    clock.now += 61
    assert opened(sessions.handle(None, NEW))


def test_closing_needs_an_open_session(sessions: Sessions) -> None:
    assert code_of(sessions, None, CLOSE) == "missing_field"
    assert code_of(sessions, "nobody", CLOSE) == "session_not_found"


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"messages": [{"content": "requestType"}]}'])
def test_every_other_body_is_the_models(sessions: Sessions, body: bytes) -> None:
    assert sessions.handle(None, body) is None


@pytest.mark.parametrize("body", [{"requestType": "RENEW"}, {"requestType": "CLOSE", "more": 1}])
def test_a_malformed_request_about_a_session_is_refused(sessions: Sessions, body: dict[str, object]) -> None:
    assert code_of(sessions, None, json.dumps(body).encode()) == "invalid_value"


def test_turned_off_they_are_refused_by_the_setting(clock: Clock) -> None:
    off = Sessions(enabled=False, seconds=60, limit=2, clock=clock)
    assert code_of(off, "some-id", b"{}") == "sessions_off"
    assert off.handle(None, b"{}") is None
