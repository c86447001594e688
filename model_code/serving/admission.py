"""Who may compute now, who waits, who is refused: a bounded first-come queue in requests and in tokens.

A request takes a slot and the tokens it may come to hold (prompt and answer), so that what runs always fits
the engine's cache. Knows nothing of engines or HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


class QueueFull(Exception):
    """No room to wait either."""


@dataclass(eq=False)
class _Waiter:
    tokens: int
    admitted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Admission:
    """Slots and token room of one server; for one event loop."""

    def __init__(self, *, max_running: int, max_queued: int, max_tokens: int) -> None:
        self._max_running = max_running
        self._max_queued = max_queued
        self._max_tokens = max_tokens
        self._tokens = 0
        self._waiting: deque[_Waiter] = deque()
        self.running = 0
        self.idle = asyncio.Event()
        """Set while nothing runs (and so nothing waits)."""
        self.idle.set()

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    @asynccontextmanager
    async def slot(self, tokens: int) -> AsyncIterator[None]:
        """Hold a slot and room for `tokens`; waits its turn. Raises QueueFull at once when the queue is."""
        if self._waiting or not self._fits(tokens):
            await self._wait(tokens)
        else:
            self._take(tokens)
        try:
            yield
        finally:
            self._release(tokens)

    def _fits(self, tokens: int) -> bool:
        # A request larger than all room may still run alone: whoever sets the limits refuses it beforehand.
        return self.running < self._max_running and (
            self._tokens + tokens <= self._max_tokens or self.running == 0
        )

    def _take(self, tokens: int) -> None:
        self.running += 1
        self._tokens += tokens
        self.idle.clear()

    def _release(self, tokens: int) -> None:
        self.running -= 1
        self._tokens -= tokens
        self._admit_next()
        if self.running == 0:
            self.idle.set()

    async def _wait(self, tokens: int) -> None:
        if len(self._waiting) >= self._max_queued:
            raise QueueFull
        waiter = _Waiter(tokens)
        self._waiting.append(waiter)
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            if waiter.admitted.done() and not waiter.admitted.cancelled():  # admitted in the very same moment
                self._release(tokens)
            else:
                self._waiting.remove(waiter)
                self._admit_next()
            raise

    def _admit_next(self) -> None:
        while self._waiting and self._fits(self._waiting[0].tokens):
            waiter = self._waiting.popleft()
            self._take(waiter.tokens)
            waiter.admitted.set_result(None)
