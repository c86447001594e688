"""What the openvino engine and its worker process say to each other; light, for either side to import."""

from __future__ import annotations

import marshal
import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal

from model_code.serving.engines.base import GenerationRequest, StopReason


@dataclass(frozen=True, slots=True)
class Ready:
    """Sent once: the model is loaded; its bounds in tokens, and whether answers can be held to a schema."""

    context_tokens: int
    cache_tokens: int
    schemas: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """Sent once, as the last message: loading or computing failed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Sent for a request that ends without an answer; the others and the engine go on."""

    number: int
    kind: Literal["failed", "schema", "memory"]
    reason: str


@dataclass(frozen=True, slots=True)
class Add:
    """Received: a new request under a number of the sender's choice."""

    number: int
    request: GenerationRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """Received: nobody wants this request's tokens any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Release:
    """Received: nothing runs; memory that fills only with use is to be given back."""


@dataclass(frozen=True, slots=True)
class Step:
    """Sent after a step: the load, and per request its new tokens, why it ended if it did, and their log
    probabilities if it asked for them."""

    tokens: list[tuple[int, list[int], StopReason | None, list[float] | None]]
    running: int
    batch: int
    cache_use: float


_STEP, _OTHER = b"s", b"o"
_LENGTH = struct.Struct("!i")  # multiprocessing's own framing
Report = Ready | Failed | Refused | Step
Command = Add | Cancel | Release


def send_report(connection: Connection, report: Report) -> None:
    """What the worker says. Steps are many and wait for no one: they go as plain values, several times as
    fast as pickled ones. Raises OSError when the other side is gone."""
    if isinstance(report, Step):
        fields = (report.tokens, report.running, report.batch, report.cache_use)
        connection.send_bytes(_STEP + marshal.dumps(fields))
    else:
        connection.send_bytes(_OTHER + pickle.dumps(report))


def parse_report(content: bytes) -> Report:
    """What the worker meant by the content of one of its messages."""
    if content[:1] == _STEP:
        return Step(*marshal.loads(content[1:]))  # noqa: S302 - written by our own process
    report: Report = pickle.loads(content[1:])  # noqa: S301 - written by our own process
    return report


def frame_command(order: Command) -> bytes:
    """An order as `Connection.recv` reads it."""
    content = pickle.dumps(order)
    return _LENGTH.pack(len(content)) + content


def split_messages(buffer: bytearray) -> Iterator[bytes]:
    """Take the complete messages off the front of what came; `Connection` has put its length before each."""
    while len(buffer) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
        if len(buffer) < end:
            return
        content = bytes(buffer[_LENGTH.size : end])
        del buffer[:end]
        yield content
