"""SageMaker Runtime: an endpoint by name, and the event stream in which it answers.

Source of the encoding: Smithy specification, "Amazon Event Stream": total length, headers length and their
CRC, headers, payload, CRC of everything before. Header values of other types than string (7) are skipped by
their sizes. `botocore.eventstream` reads it too, and would add 30 to 48 ms to a cold start of 196
(bench/results/imports.md); a test holds this reader to it.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from zlib import crc32

from lambdas.aws import client as aws
from lambdas.aws import model_errors
from lambdas.aws.model_errors import ModelCallError, VariantNotFoundError

CONNECT_TIMEOUT_SECONDS = 2.0
SILENCE_TIMEOUT_SECONDS = 120.0
"""Longest wait for the next byte, the first one included: a queue plus the prefill of a long prompt."""


class SageMakerEndpoint:
    """An endpoint by name, in this region or another. One attempt per call: callers decide about more."""

    provider = "aws.sagemaker"

    def __init__(
        self, name: str, region: str | None = None, *, component: str | None = None, streamed: bool = True
    ) -> None:
        """`component` is the inference component to call; without `streamed` the answer comes whole."""
        self._component = component
        self._accept = "x-amzn-sagemaker-accept" if streamed else "accept"  # each operation has its own name
        self._path = f"/endpoints/{name}/invocations{'-response-stream' if streamed else ''}"
        self._opened = SageMakerStream if streamed else ModelBytes
        self._client = aws.Client(
            "sagemaker-runtime",
            "runtime.sagemaker",
            "sagemaker",
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=SILENCE_TIMEOUT_SECONDS,
            region=region,
        )

    def invoke(self, body: bytes, attributes: str, variant: str | None) -> SageMakerStream | ModelBytes:
        """Open a reply. Raises ModelCallError, or VariantNotFoundError when `variant` is not there."""
        headers = {
            "content-type": "application/json",
            self._accept: "text/event-stream",
            "x-amzn-sagemaker-custom-attributes": attributes,
        }
        if variant:
            headers["x-amzn-sagemaker-target-variant"] = variant
        if self._component:
            headers["x-amzn-sagemaker-inference-component"] = self._component
        try:
            reply = self._client.send("POST", self._path, headers, body)
            if reply.status != 200:
                raise _refusal(reply, variant)
        except aws.ReadTimeoutError as error:
            raise ModelCallError(model_errors.timed_out()) from error
        except (aws.ConnectionFailedError, aws.StreamInterruptedError) as error:
            raise model_errors.connection_failed() from error
        return self._opened(reply)


class ModelBytes:
    """A model's bytes as they come: of an answer that SageMaker has collected, or of another service."""

    def __init__(self, reply: aws.Reply) -> None:
        self.variant = reply.header("x-amzn-invoked-production-variant")
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        """Raises ApiError when the answer breaks off or falls silent."""
        try:
            yield from self._reply
        except aws.ReadTimeoutError:
            raise model_errors.timed_out() from None
        except aws.StreamInterruptedError:
            raise model_errors.interrupted() from None

    def close(self) -> None:
        """Let go of the connection."""
        self._reply.close()


class SageMakerStream:
    """The model's bytes out of an event stream."""

    def __init__(self, reply: aws.Reply) -> None:
        self.variant = reply.header("x-amzn-invoked-production-variant")
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        """Raises ApiError when the stream reports an error, breaks or falls silent."""
        try:
            for message in messages(self._reply):
                if message.headers.get(":message-type") != "event":
                    raise model_errors.interrupted()
                yield message.payload
        except aws.ReadTimeoutError:
            raise model_errors.timed_out() from None
        except (aws.StreamInterruptedError, InvalidEventStreamError):
            raise model_errors.interrupted() from None

    def close(self) -> None:
        """Let go of the connection; the model stops generating."""
        self._reply.close()


def _refusal(reply: aws.Reply, variant: str | None) -> Exception:
    detail = reply.json()
    code = (reply.header("x-amzn-errortype") or str(detail.get("__type", ""))).partition(":")[0]
    if variant and code in {"ValidationError", "ValidationException"}:
        return VariantNotFoundError()
    return model_errors.from_service(
        code,
        reply.status,
        detail.get("Message") or detail.get("message"),
        detail.get("OriginalStatusCode"),
        detail.get("OriginalMessage"),
    )


_PRELUDE = struct.Struct("!III")
_MAX_MESSAGE_BYTES = 25 * 1024 * 1024
_FIXED_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_STRING = 7


class InvalidEventStreamError(Exception):
    """The bytes are not an event stream, were damaged, or end within a message."""


@dataclass(frozen=True)
class EventStreamMessage:
    """One message: its string headers (`:message-type`, `:event-type` …) and its payload."""

    headers: Mapping[str, str]
    payload: bytes


def messages(pieces: Iterable[bytes]) -> Iterator[EventStreamMessage]:
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


def _decode(message: bytes, headers_size: int) -> EventStreamMessage:
    if crc32(message[:-4]) != int.from_bytes(message[-4:]):
        raise InvalidEventStreamError("checksum")
    end = _PRELUDE.size + headers_size
    try:
        return EventStreamMessage(_headers(message[_PRELUDE.size : end]), message[end:-4])
    except (IndexError, KeyError, UnicodeDecodeError):
        raise InvalidEventStreamError("headers") from None


@functools.lru_cache(maxsize=64)
def _headers(block: bytes) -> Mapping[str, str]:
    """Kept, since the messages of a stream have the same headers, all but the last."""
    return dict(_read_headers(block))


def _read_headers(block: bytes) -> Iterator[tuple[str, str]]:
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
