"""What each guard adds to an answer, by itself: the same pipeline with it and without, in turn, in one
process.

The model answers at once, so what a guard holds back costs nothing here: the figures are processor time
alone.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Iterable, Iterator
from typing import Any

from bench.gateway import stub
from contracts.guards import GuardSettings
from lambdas.aws.access_table import CatalogueItems
from lambdas.pipeline.assembly import Service
from lambdas.pipeline.environment import InferenceEnvironment
from lambdas.pipeline.operations import CHAT
from lambdas.pipeline.request import IncomingRequest

WORDS = 200
GUARDS = {
    "none": GuardSettings(),
    "pii": GuardSettings(mask_pii=True),
    "denied_topic": GuardSettings(denied_topics={"weapons": ["pipe bomb", "nerve agent"]}),
    "injection": GuardSettings(block_injection=True),
}
CALLER = {"tenant": "bench", "key_name": "bench", "scopes": "inference"}


class _Nothing:
    """The stub's answer without a network; tables and records that are not there."""

    variant = "champion"
    answer = b"".join(stub.sse_events())

    def invoke(self, *_: Any) -> _Nothing:
        return self

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.answer])

    def close(self) -> None:
        """Nothing is held."""

    def read(self, endpoints: Iterable[str]) -> CatalogueItems:
        """No routing item."""
        return CatalogueItems({})

    def store(self, *_: Any) -> None:
        """Kept nowhere."""

    def settle(self, *_: Any) -> None:
        """Booked nowhere."""


def delays(rounds: int) -> dict[str, dict[str, float]]:
    """By guard, milliseconds added to the first piece and to a whole answer: medians over rounds in turn."""
    nothing: Any = _Nothing()
    settings = InferenceEnvironment(
        environment="bench", access_table="a", endpoint_name="e", model_name=stub.MODEL, model_version="1",
        records_table="r", record_ttl_days=1, max_body_bytes=1_000_000,
    )  # fmt: skip
    doors = {
        name: Service(
            settings.model_copy(update={"guards": guards}), lambda *_: nothing, nothing, nothing, nothing
        )
        for name, guards in GUARDS.items()
    }
    text = " ".join(f"word{number}" for number in range(WORDS))
    body = (
        f'{{"model": "{stub.MODEL}", "stream": true, "messages": [{{"role": "user", "content": "{text}"}}]}}'
    )
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in doors}
    for _ in range(rounds):
        for name, door in doors.items():
            with contextlib.redirect_stdout(io.StringIO()):
                seen[name].append(_answer(door, body.encode()))
    middle = {
        name: [statistics.median(times) for times in zip(*pairs, strict=True)] for name, pairs in seen.items()
    }
    first, whole = middle.pop("none")
    return {name: {"first_ms": f - first, "whole_ms": w - whole} for name, (f, w) in middle.items()}


def _answer(door: Service, body: bytes) -> tuple[float, float]:
    started = time.perf_counter()
    reply = door.answer(CHAT.route, IncomingRequest("r", body, CALLER, {}, None, time.time()))
    pieces = iter(reply.body)
    next(pieces)
    first = time.perf_counter() - started
    for _ in pieces:
        pass
    whole = time.perf_counter() - started
    reply.after()
    return 1000 * first, 1000 * whole
