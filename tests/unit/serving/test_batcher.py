"""The batcher: every text once, in turns, within bounds, and failures where they belong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

np = pytest.importorskip("numpy")

from model_code.serving.encoders.batcher import Batcher  # noqa: E402


class Recorder:
    """Computes a text's length and sum; keeps the batches; waits for `go` before the first."""

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, texts: Sequence[Sequence[int]]):
        """A row per text; a text of one 13 breaks its batch."""
        assert self.go.wait(10)
        self.batches.append([list(text) for text in texts])
        if [13] in self.batches[-1]:
            raise ValueError("unlucky")
        return np.array([[len(text), sum(text)] for text in texts], np.float32)


def test_rows_come_back_in_the_order_of_the_texts() -> None:
    async def scenario() -> None:
        batcher = Batcher(Recorder(), max_rows=3, max_tokens=100, note_progress=lambda: None)
        rows = await batcher.run([[5, 5, 5], [1], [2, 2], [7]])
        assert rows.tolist() == [[3, 15], [1, 1], [2, 4], [1, 7]]

    asyncio.run(scenario())


def test_a_batch_keeps_within_its_bounds_padding_included() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        batcher = Batcher(recorder, max_rows=4, max_tokens=20, note_progress=lambda: None)
        await batcher.run([[1] * length for length in (1, 1, 1, 1, 1, 9, 9, 30)])
        for batch in recorder.batches:
            assert len(batch) <= 4
            assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= 20
        assert sum(map(len, recorder.batches)) == 8

    asyncio.run(scenario())


def test_a_large_request_does_not_hold_up_a_small_one() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        recorder.go.clear()
        batcher = Batcher(recorder, max_rows=2, max_tokens=1000, note_progress=lambda: None)
        large = asyncio.create_task(batcher.run([[1]] * 50))
        await asyncio.sleep(0)
        small = asyncio.create_task(batcher.run([[2]]))
        await asyncio.sleep(0)
        recorder.go.set()
        await small
        assert len(recorder.batches) <= 3  # it was in the second batch, not the twenty-fifth
        await large

    asyncio.run(scenario())


def test_a_failure_meets_the_batch_it_was_in_and_nobody_else() -> None:
    async def scenario() -> None:
        batcher = Batcher(Recorder(), max_rows=1, max_tokens=100, note_progress=lambda: None)
        unlucky, lucky = batcher.run([[13]]), batcher.run([[4]])
        results = await asyncio.gather(unlucky, lucky, return_exceptions=True)
        assert isinstance(results[0], ValueError)
        assert results[1].tolist() == [[1, 4]]
        assert (await batcher.run([[6]])).tolist() == [[1, 6]]

    asyncio.run(scenario())


def test_who_leaves_takes_along_what_was_not_computed() -> None:
    async def scenario() -> None:
        recorder = Recorder()
        recorder.go.clear()
        batcher = Batcher(recorder, max_rows=1, max_tokens=100, note_progress=lambda: None)
        leaving = asyncio.create_task(batcher.run([[1]] * 40))
        await asyncio.sleep(0.01)
        leaving.cancel()
        recorder.go.set()
        await asyncio.wait([leaving])
        await batcher.run([[2]])
        assert len(recorder.batches) <= 3

    asyncio.run(scenario())
