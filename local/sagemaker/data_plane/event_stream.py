"""Encodes `application/vnd.amazon.eventstream`, the framing of InvokeEndpointWithResponseStream.

A message is: total length, headers' length, CRC-32 of those two, headers, payload, CRC-32 of all before;
integers big-endian. A header is: name's length (1 byte), name, type 7 (string), value's length (2 bytes),
value. S3DataSource: the Smithy specification "Amazon Event Stream".
"""

from __future__ import annotations

import json
import struct
import zlib

CONTENT_TYPE = "application/vnd.amazon.eventstream"
MAX_PAYLOAD_BYTES = 1024 * 1024
"""Largest payload of one part; larger chunks are sent as several parts."""

_STRING_TYPE = 7
_PRELUDE_BYTES = 12
_CRC_BYTES = 4


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """One framed message with string headers."""
    packed = b"".join(_header(name, value) for name, value in headers.items())
    total = _PRELUDE_BYTES + len(packed) + len(payload) + _CRC_BYTES
    prelude = struct.pack("!II", total, len(packed))
    framed = prelude + struct.pack("!I", zlib.crc32(prelude)) + packed + payload
    return framed + struct.pack("!I", zlib.crc32(framed))


def payload_part(data: bytes) -> bytes:
    """A `PayloadPart` event carrying at most `MAX_PAYLOAD_BYTES` of the container's reply."""
    return message(
        {
            ":message-type": "event",
            ":event-type": "PayloadPart",
            ":content-type": "application/octet-stream",
        },
        data,
    )


def payload_parts(data: bytes) -> bytes:
    """A chunk of the container's reply as one or, when it is very large, several events."""
    return b"".join(
        payload_part(data[start : start + MAX_PAYLOAD_BYTES])
        for start in range(0, len(data), MAX_PAYLOAD_BYTES)
    )


def model_stream_error(text: str, error_code: str) -> bytes:
    """The exception that ends a stream when the container failed after its first byte. `error_code` is
    `ModelInvocationTimeExceeded` or `StreamBroken`."""
    return _exception("ModelStreamError", {"Message": text, "ErrorCode": error_code})


def internal_stream_failure(text: str) -> bytes:
    """The exception that ends a stream when the service itself failed."""
    return _exception("InternalStreamFailure", {"Message": text})


def _exception(kind: str, body: dict[str, str]) -> bytes:
    return message(
        {":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"},
        json.dumps(body).encode(),
    )


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack("!B", len(key)) + key + struct.pack("!BH", _STRING_TYPE, len(text)) + text
