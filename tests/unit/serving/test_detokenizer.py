"""Streaming text: characters stay whole, stop strings stay inside."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_code.serving.generation.detokenizer import StopMatcher, StreamDecoder


def decode_bytes(tokens: Sequence[int]) -> str:
    """A tokenizer whose tokens are single bytes: the worst case for characters."""
    return bytes(tokens).decode("utf-8", errors="replace")


# The replacement character itself, as the last of an answer, cannot be told from half of another one.
@given(text=st.text(max_size=60).filter(lambda text: "\ufffd" not in text))
def test_valid_text_comes_out_whole_and_never_half(text: str) -> None:
    decoder = StreamDecoder(decode_bytes)
    pieces = [decoder.push([byte]) for byte in text.encode()]

    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


@given(data=st.binary(max_size=60), size=st.integers(1, 5))
def test_any_bytes_are_given_out_the_same_however_they_arrive(data: bytes, size: int) -> None:
    def collect(step: int) -> str:
        decoder = StreamDecoder(decode_bytes)
        return "".join(decoder.push(list(data[at : at + step])) for at in range(0, len(data), step))

    assert collect(size) == collect(1)


def test_a_character_cut_off_at_the_end_is_dropped() -> None:
    decoder = StreamDecoder(decode_bytes)
    assert decoder.push(list("é".encode())[:1]) == ""


@given(
    pieces=st.lists(st.text("ab#", max_size=4), max_size=12),
    stops=st.lists(st.text("ab#", min_size=1, max_size=4), max_size=3),
)
def test_stop_strings_are_found_however_the_text_is_cut(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    expected = _until_first_stop(pieces, stops)
    matcher, out = StopMatcher(stops), ""
    for piece in pieces:
        text, stopped = matcher.push(piece)
        out += text
        if stopped:
            break
    else:
        out += matcher.flush()

    assert out == expected
    assert (matcher.reached is None) is (out == whole)
    assert whole.startswith(out + (matcher.reached or ""))
    assert not any(stop in out for stop in stops)


def _until_first_stop(pieces: list[str], stops: list[str]) -> str:
    """The text before the stop string that is complete first; of several in one piece, the leftmost."""
    text = ""
    for piece in pieces:
        text += piece
        hits = [at for stop in stops if (at := text.find(stop)) >= 0]
        if hits:
            return text[: min(hits)]
    return text


@pytest.mark.parametrize(("text", "given_out"), [("Hello E", "Hello "), ("Hello EN", "Hello "), ("EX", "EX")])
def test_only_what_may_become_a_stop_is_held_back(text: str, given_out: str) -> None:
    assert StopMatcher(["END"]).push(text) == (given_out, False)
