"""What the openvino engine and its worker process say to each other; light, for either side to import."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from model_code.serving.engines.base import EngineLimits, GenerationRequest, StopReason


@dataclass(frozen=True, slots=True)
class Ready:
    """Sent once: the model is loaded, with its bounds in tokens."""

    context_tokens: int
    cache_tokens: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Sent once, as the last message: loading or computing failed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Sent for a request that the pipeline does not take; the others are not concerned."""

    number: int
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
class Step:
    """Sent after a step: per request its new tokens and, if it ended, why; and the load."""

    tokens: list[tuple[int, list[int], StopReason | None]]
    running: int
    cache_use: float


def start_worker(connection: Connection, folder: Path, limits: EngineLimits) -> None:
    """The worker process's first function: only there is OpenVINO imported."""
    from model_code.serving.engines.openvino_worker import main

    main(connection, folder, limits)
