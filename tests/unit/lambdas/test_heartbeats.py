"""Streams whose first token is long in coming, through the door."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lambdas.pipeline import invocation
from lambdas.pipeline import invocation as invoke
from lambdas.pipeline.delivery import COMMENT
from tests.support.fake_model_endpoint import Reply, chat_events, payload_part
from tests.support.front_door import Door, chat, events

WAIT_SECONDS = 60


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Lets the model begin; heartbeats come quickly here."""
    monkeypatch.setattr(invocation, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(invoke, "HEARTBEAT_SECONDS", 0.05)
    event = threading.Event()
    yield event
    event.set()


def late(go_on: threading.Event, *parts: bytes) -> Reply:
    """A reply whose first byte waits for `go_on`."""

    def waiting() -> Iterator[bytes]:
        go_on.wait(WAIT_SECONDS)
        yield from parts

    return Reply(parts=waiting())


def test_a_caller_hears_that_the_model_is_still_at_it(door: Door, go_on: threading.Event) -> None:
    door.sagemaker.replies = [late(go_on, payload_part(chat_events("Hel", "lo")))]
    reply = door.start(chat(stream=True))
    pieces = iter(reply.body)
    assert [next(pieces), next(pieces), next(pieces)] == [COMMENT] * 3
    go_on.set()
    rest = b"".join(piece for piece in pieces if piece != COMMENT)
    reply.after()
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in events(rest)[:-1])
    assert (reply.status, text) == (200, "Hello")
    record = door.record()
    assert record is not None
    assert (record["status"], record["completion_tokens"], record["variant"]) == (200, 3, "champion")


def test_a_refusal_after_heartbeats_is_an_event(door: Door, go_on: threading.Event) -> None:
    door.sagemaker.replies = [late(go_on, payload_part(b"garbage\n\n"))]
    reply = door.start(chat(stream=True))
    pieces = iter(reply.body)
    assert next(pieces) == COMMENT
    go_on.set()
    rest = b"".join(piece for piece in pieces if piece != COMMENT)
    reply.after()
    assert events(rest)[-1]["error"]["type"] == "server_error"
    record = door.record()
    assert record is not None
    assert record["status"] == 500


def test_a_caller_that_leaves_while_waiting_lets_the_model_go(door: Door, go_on: threading.Event) -> None:
    endless = (payload_part(chat_events("x" * 4096, done=False)) for _ in range(100_000))
    door.sagemaker.replies = [late(go_on, *(next(endless) for _ in range(2_000)))]
    reply = door.start(chat(stream=True))
    pieces = iter(reply.body)
    assert next(pieces) == COMMENT
    reply.body.close()  # type: ignore[attr-defined]
    reply.after()
    go_on.set()
    assert door.sagemaker.gone.wait(WAIT_SECONDS)
    record = door.record()
    assert record is not None
    assert record["status"] == 499


def test_a_whole_answer_is_waited_for_in_silence(door: Door, go_on: threading.Event) -> None:
    threading.Timer(0.2, go_on.set).start()
    door.sagemaker.replies = [late(go_on, payload_part(chat_events("Hel", "lo")))]
    reply, body = door.ask(chat())
    assert reply.status == 200
    assert not body.startswith(b":")
