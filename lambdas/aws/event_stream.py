"""The event-stream encoding in which SageMaker streams a model's reply. Decoding only, without network.

Source: Smithy specification, "Amazon Event Stream": total length, headers length and their CRC, headers,
payload, CRC of everything before. Header values of other types than string (7) are skipped by their sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from zlib import crc32

_PRELUDE = struct.Struct("!III")
_MAX_MESSAGE_BYTES = 25 * 1024 * 1024
_FIXED_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_STRING = 7


class InvalidEventStreamError(Exception):
    """The bytes are not an event stream, were damaged, or end within a message."""


@dataclass(frozen=True)
class Message:
    """One message: its string headers (`:message-type`, `:event-type` …) and its payload."""

    headers: dict[str, str]
    payload: bytes


def messages(pieces: Iterable[bytes]) -> Iterator[Message]:
    """The messages in bytes cut anywhere. Raises InvalidEventStreamError."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        while len(buffer) >= _PRELUDE.size:
            total, headers_size, prelude_crc = _PRELUDE.unpack_from(buffer)
            if crc32(buffer[:8]) != prelude_crc or not 16 <= total <= _MAX_MESSAGE_BYTES:
                raise InvalidEventStreamError("prelude")
            if len(buffer) < total:
                break
            message = bytes(buffer[:total])
            del buffer[:total]
            yield _decode(message, headers_size)
    if buffer:
        raise InvalidEventStreamError("ends within a message")


def _decode(message: bytes, headers_size: int) -> Message:
    if crc32(message[:-4]) != int.from_bytes(message[-4:]):
        raise InvalidEventStreamError("checksum")
    end = _PRELUDE.size + headers_size
    try:
        return Message(dict(_headers(message[_PRELUDE.size : end])), message[end:-4])
    except (IndexError, KeyError, UnicodeDecodeError):
        raise InvalidEventStreamError("headers") from None


def _headers(block: bytes) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(block):
        name_end = position + 1 + block[position]
        name, kind = block[position + 1 : name_end].decode(), block[name_end]
        position = name_end + 1
        if kind in _FIXED_SIZES:
            position += _FIXED_SIZES[kind]
            continue
        if kind not in (6, _STRING):
            raise KeyError(kind)
        size = int.from_bytes(block[position : position + 2])
        position += 2 + size
        if kind == _STRING:
            yield name, block[position - size : position].decode()
