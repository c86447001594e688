"""`application/vnd.amazon.eventstream` for fakes and tests: the laptop's encoder, botocore's decoder.

botocore has no encoder, so the laptop's is used; `tests/unit/sagemaker/test_event_stream.py` holds it to
botocore's decoder.
"""

from __future__ import annotations

import json

from botocore.eventstream import EventStreamBuffer, EventStreamMessage

from local.sagemaker.data_plane.event_stream import message, payload_part

__all__ = ["decode", "message", "payload_part", "stream_error"]


def decode(data: bytes) -> list[EventStreamMessage]:
    """The messages in some bytes; raises botocore's ParserError for damaged ones."""
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return list(buffer)


def stream_error(kind: str, text: str) -> bytes:
    """An exception in the middle of the stream, as `ModelStreamError`."""
    headers = {":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}
    body = {"Message": text, "ErrorCode": "ModelInvocationTimeExceeded"}
    return message(headers, json.dumps(body).encode())
