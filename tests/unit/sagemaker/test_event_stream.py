"""Our event stream, read back by botocore's own parser."""

from __future__ import annotations

import json

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from local.sagemaker.data_plane import event_stream
from tests.support.event_stream import decode, stream_error


@given(st.binary(min_size=1, max_size=5000))
def test_any_payload_comes_back_unchanged(payload: bytes) -> None:
    (event,) = decode(event_stream.payload_parts(payload))
    assert event.payload == payload
    assert event.headers[":message-type"] == "event"
    assert event.headers[":event-type"] == "PayloadPart"


HEADERS = st.dictionaries(st.text(min_size=1, max_size=60), st.text(max_size=200), max_size=8)


@given(HEADERS, st.binary(max_size=2000))
def test_any_headers_and_payload_come_back_unchanged(headers: dict[str, str], payload: bytes) -> None:
    (event,) = decode(event_stream.message(headers, payload))
    assert event.headers == headers
    assert event.payload == payload


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5), st.integers(1, 50))
def test_messages_come_back_from_pieces_of_any_size(payloads: list[bytes], size: int) -> None:
    data = b"".join(event_stream.payload_part(payload) for payload in payloads)
    buffer, found = EventStreamBuffer(), []
    for start in range(0, len(data), size):
        buffer.add_data(data[start : start + size])
        found += [event.payload for event in buffer]
    assert found == payloads


def test_the_fakes_error_is_the_one_that_the_laptop_sends() -> None:
    ours = event_stream.model_stream_error("late", "ModelInvocationTimeExceeded")
    assert stream_error("ModelStreamError", "late") == ours


def test_a_huge_chunk_is_split_into_parts_that_join_to_it() -> None:
    payload = bytes(range(256)) * 10_000
    events = decode(event_stream.payload_parts(payload))
    assert len(events) == 3
    assert b"".join(event.payload for event in events) == payload
    assert max(len(event.payload) for event in events) <= event_stream.MAX_PAYLOAD_BYTES


def test_a_model_stream_error_is_an_exception_message() -> None:
    (event,) = decode(event_stream.model_stream_error("it broke", "StreamBroken"))
    assert event.headers[":message-type"] == "exception"
    assert event.headers[":exception-type"] == "ModelStreamError"
    assert json.loads(event.payload) == {"Message": "it broke", "ErrorCode": "StreamBroken"}
    assert event.to_response_dict()["status_code"] == 400


def test_a_service_failure_is_told_apart_from_the_models() -> None:
    (event,) = decode(event_stream.internal_stream_failure("ours"))
    assert event.headers[":exception-type"] == "InternalStreamFailure"


@pytest.mark.parametrize("position", [5, 30, -1])
def test_the_checksums_cover_every_byte(position: int) -> None:
    damaged = bytearray(event_stream.payload_part(b"hello"))
    damaged[position] ^= 1
    with pytest.raises(ChecksumMismatch):
        decode(bytes(damaged))
