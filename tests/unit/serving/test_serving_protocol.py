"""Requests are parsed strictly, errors name the field, chunks say only what they mean."""

from __future__ import annotations

import json

import pytest

from contracts.chat import ChatRequest
from model_code.serving.errors import ServingError
from model_code.serving.protocol import AnswerWriter, Piece, parse

WRITER = AnswerWriter("chatcmpl-1", "m", prompt_tokens=3, created=7)


def test_a_refusal_never_repeats_the_callers_text() -> None:
    with pytest.raises(ServingError) as caught:
        parse(ChatRequest, b'{"model": "m", "messages": [{"role": "user", "content": {"secret": "4711"}}]}')
    assert "4711" not in caught.value.body
    assert json.loads(caught.value.body)["error"]["param"] == "messages[0].content"


def test_an_unknown_field_deep_inside_is_named() -> None:
    with pytest.raises(ServingError) as caught:
        parse(ChatRequest, b'{"model": "m", "messages": [{"role": "user", "content": "x", "mood": 1}]}')
    assert json.loads(caught.value.body)["error"]["param"] == "messages[0].mood"


def test_the_retry_hint_is_in_header_and_message() -> None:
    error = ServingError("overloaded_error", "Busy.", retry_after=2)
    assert error.headers == [(b"retry-after", b"2")]
    assert error.status == 503


def test_chunks_leave_out_what_they_do_not_say() -> None:
    event = WRITER.text("hi")
    assert event.endswith(b"\n\n")
    assert json.loads(event.removeprefix(b"data: ")) == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}],
    }


def test_a_line_break_in_text_does_not_break_the_event() -> None:
    assert WRITER.text("a\n\nb").count(b"\n") == 2


def test_the_whole_answer_counts_tokens() -> None:
    body = json.loads(WRITER.whole("hi", Piece("", 5, "stop")))
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    assert body["choices"][0]["finish_reason"] == "stop"
