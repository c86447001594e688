"""Puts the texts of all requests that wait together into batches, each request in its turn.

A request with thousands of texts so holds nobody up: while another waits, every batch has texts of both.
Knows nothing of models: it is given a function that computes a batch, and calls it in one thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from model_code.serving.engines.encoder import Numbers, Tokens

Compute = Callable[[Sequence[Tokens]], Numbers]


@dataclass(eq=False)
class _Job:
    """A request: its texts in token ids, which of them no batch has taken yet, and the rows there are."""

    texts: list[Tokens]
    pending: deque[int]
    rows: dict[int, Numbers] = field(default_factory=dict)
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """For one event loop. A batch holds at most `max_rows` texts and, padding included, `max_tokens`
    tokens, but always one text."""

    def __init__(
        self, compute: Compute, *, max_rows: int, max_tokens: int, note_progress: Callable[[], None]
    ) -> None:
        self._compute = compute
        self._max_rows = max_rows
        self._max_tokens = max_tokens
        self._waiting_jobs: deque[_Job] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._worker: asyncio.Task[None] | None = None
        self._note_progress = note_progress  # called when a batch has ended, however

    async def run(self, texts: list[Tokens]) -> Numbers:
        """The rows of the texts, in their order. Raises whatever the computation raised for a batch."""
        # Shortest first, so that a batch pads little.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        job = _Job(texts, deque(order))
        self._waiting_jobs.append(job)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            await job.done
        finally:  # a caller that leaves takes along what no batch has taken
            job.pending.clear()
        return np.stack([job.rows[index] for index in range(len(texts))])

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next():
            texts = [job.texts[index] for job, index in batch]
            try:
                rows = await loop.run_in_executor(self._thread, self._compute, texts)
            except Exception as error:  # noqa: BLE001 - these texts failed, whatever it was; the others go on
                for job, _ in batch:
                    job.pending.clear()
                    if not job.done.done():
                        job.done.set_exception(error)
                continue
            finally:
                self._note_progress()
            for (job, index), row in zip(batch, rows, strict=True):
                job.rows[index] = row
                if len(job.rows) == len(job.texts) and not job.done.done():
                    job.done.set_result(None)

    def _next(self) -> list[tuple[_Job, int]]:
        batch: list[tuple[_Job, int]] = []
        longest = 0
        while self._waiting_jobs and len(batch) < self._max_rows:
            job = self._waiting_jobs.popleft()
            if not job.pending:
                continue
            longest = max(longest, len(job.texts[job.pending[0]]))
            if batch and longest * (len(batch) + 1) > self._max_tokens:
                self._waiting_jobs.appendleft(job)
                break
            batch.append((job, job.pending.popleft()))
            self._waiting_jobs.append(job)
        return batch

    def close(self) -> None:
        """Take no more work; a batch that is being computed is not waited for."""
        if self._worker is not None:
            self._worker.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
