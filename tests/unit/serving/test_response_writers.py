"""Answers as OpenAI's clients parse them; chunks say only what they mean."""

from __future__ import annotations

import json
from typing import Any

from contracts.chat import ChatChunk, ChatCompletion, TokenLogprob
from contracts.completions import Completion
from model_code.serving.protocol.deltas import OutputDelta, ToolCallPart
from model_code.serving.protocol.response_writers import ChatWriter, CollectedOutput, CompletionWriter

WRITER = ChatWriter("1", "m", prompt_tokens=3, created=7)


def events(raw: bytes) -> list[dict[str, Any]]:
    assert raw.endswith(b"\n\n")
    return [json.loads(event.removeprefix(b"data: ")) for event in raw.strip().split(b"\n\n")]


def gathered(*pieces: OutputDelta) -> CollectedOutput:
    answer = CollectedOutput()
    for piece in pieces:
        answer.add(piece)
    return answer


def test_a_text_chunk_leaves_out_what_it_does_not_say() -> None:
    for text in ("hi", 'a"\\\n\u2028\x00é🙂'):
        assert events(WRITER.events(OutputDelta(text, 1), opening=False)) == [
            {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 7,
                "model": "m",
                "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
            }
        ]


def test_a_model_name_of_any_kind_fits_the_frame() -> None:
    writer = ChatWriter("1", 'a"\\u0000\x00b', prompt_tokens=3, created=7)
    for index in (0, 1, 0):
        event = events(writer.events(OutputDelta("hi", 1, index=index), opening=False))[0]
        assert event["model"] == 'a"\\u0000\x00b'
        assert event["choices"][0] == {"index": index, "delta": {"content": "hi"}, "finish_reason": None}


def test_a_line_break_in_text_does_not_break_the_event() -> None:
    assert WRITER.events(OutputDelta("a\n\nb", 1), opening=False).count(b"\n") == 2


def test_a_first_and_last_piece_is_three_events() -> None:
    role, text, end = events(WRITER.events(OutputDelta("a", 1, "stop"), opening=True))
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert text["choices"][0]["delta"] == {"content": "a"}
    assert end["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}


def test_a_stop_string_is_told_where_the_answer_ended_at_one() -> None:
    end = events(WRITER.events(OutputDelta("a", 1, "stop", stop="END"), opening=False))[-1]
    assert end["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "END"}


def test_calls_come_in_pieces_and_as_a_whole() -> None:
    pieces = [
        OutputDelta("", 1, calls=(ToolCallPart(0, '{"a"', "call_1", "f"),)),
        OutputDelta("", 2, calls=(ToolCallPart(0, ": 1}"),)),
    ]
    chunks = [events(WRITER.events(piece, opening=False))[0] for piece in pieces]
    deltas = [ChatChunk.model_validate(chunk).choices[0].delta.tool_calls for chunk in chunks]
    assert chunks[1]["choices"][0]["delta"] == {
        "tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]
    }
    assert deltas[0] is not None
    assert (deltas[0][0].id, deltas[0][0].type) == ("call_1", "function")

    whole = WRITER.whole([gathered(*pieces, OutputDelta("", 3, "tool_calls"))])
    choice = ChatCompletion.model_validate_json(whole).choices[0]
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].function.arguments == '{"a": 1}'
    assert choice.finish_reason == "tool_calls"


def test_log_probabilities_stay_with_their_text() -> None:
    entry = TokenLogprob(token="a", logprob=-0.5, bytes=[97], top_logprobs=[])
    chunk = events(WRITER.events(OutputDelta("a", 1, logprobs=[entry]), opening=False))[0]
    assert chunk["choices"][0]["logprobs"]["content"][0]["logprob"] == -0.5

    whole = json.loads(WRITER.whole([gathered(OutputDelta("a", 1, "stop", logprobs=[entry]))]))
    assert whole["choices"][0]["logprobs"]["content"][0]["token"] == "a"


def test_all_answers_count() -> None:
    answers = [
        gathered(OutputDelta("hi", 5, "stop")),
        gathered(OutputDelta("a", 1, index=1), OutputDelta("b", 2, "length", index=1)),
    ]
    body = ChatCompletion.model_validate_json(WRITER.whole(answers))
    assert body.usage is not None
    assert body.usage.model_dump() == {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
    assert [(c.index, c.message.content, c.finish_reason) for c in body.choices] == [
        (0, "hi", "stop"),
        (1, "ab", "length"),
    ]
    assert events(WRITER.usage(answers))[0]["usage"]["completion_tokens"] == 7


def test_text_completions_have_shapes_of_their_own() -> None:
    writer = CompletionWriter("1", "m", prompt_tokens=3, created=7)
    chunk = events(writer.events(OutputDelta("hi", 1, "stop"), opening=True))[0]
    assert Completion.model_validate(chunk).choices[0].text == "hi"
    assert "usage" not in chunk
    whole = Completion.model_validate_json(writer.whole([gathered(OutputDelta("hi", 1, "stop"))]))
    assert (whole.id, whole.choices[0].text, whole.choices[0].finish_reason) == ("cmpl-1", "hi", "stop")
