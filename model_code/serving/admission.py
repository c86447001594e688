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


class QueueFullError(Exception):
    """No room to wait either; `reason` is which bound was met."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(eq=False)
class _Waiter:
    tokens: int
    slots: int
    admitted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Admission:
    """Slots and token room of one server; for one event loop."""

    def __init__(
        self, *, max_running: int, max_queued: int, max_tokens: int, max_queued_tokens: int | None = None
    ) -> None:
        self._most_running = max_running
        self._max_queued = max_queued
        self._max_tokens = max_tokens
        self._max_queued_tokens = max_queued_tokens
        self._tokens = 0
        self._queued_tokens = 0
        self._waiting: deque[_Waiter] = deque()
        self.max_running = max_running
        """Slots at this moment: fewer than were set after memory ran out."""
        self.running = 0
        self.idle = asyncio.Event()
        """Set while nothing runs (and so nothing waits)."""
        self.idle.set()

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    @property
    def queued_tokens(self) -> int:
        """Tokens that the waiting requests may come to hold."""
        return self._queued_tokens

    @asynccontextmanager
    async def slot(self, tokens: int, slots: int = 1) -> AsyncIterator[None]:
        """Hold slots and room for `tokens`; waits its turn. Raises QueueFullError at once."""
        if self._waiting or not self._fits(tokens, slots):
            await self._wait(tokens, slots)
        else:
            self._take(tokens, slots)
        try:
            yield
        finally:
            self._release(tokens, slots)

    def shed(self) -> None:
        """Memory ran out: compute half as many requests at once from now on."""
        self.max_running = max(1, self.max_running // 2)

    def recover(self) -> None:
        """A request went well: dare one slot more, up to what was set."""
        self.max_running = min(self._most_running, self.max_running + 1)

    def _fits(self, tokens: int, slots: int) -> bool:
        # A request larger than all room may still run alone: whoever sets the limits refuses it beforehand.
        return self.running == 0 or (
            self.running + slots <= self.max_running and self._tokens + tokens <= self._max_tokens
        )

    def _take(self, tokens: int, slots: int) -> None:
        self.running += slots
        self._tokens += tokens
        self.idle.clear()

    def _release(self, tokens: int, slots: int) -> None:
        self.running -= slots
        self._tokens -= tokens
        self._admit_next()
        if self.running == 0:
            self.idle.set()

    async def _wait(self, tokens: int, slots: int) -> None:
        if len(self._waiting) >= self._max_queued:
            raise QueueFullError("queue_full")
        bound = self._max_queued_tokens
        # One request may always wait, however large: else it could never run on a busy server.
        if bound is not None and self._waiting and self._queued_tokens + tokens > bound:
            raise QueueFullError("queue_tokens_full")
        waiter = _Waiter(tokens, slots)
        self._waiting.append(waiter)
        self._queued_tokens += tokens
        try:
            await waiter.admitted
        except asyncio.CancelledError:
            if waiter.admitted.done() and not waiter.admitted.cancelled():  # admitted in the very same moment
                self._release(tokens, slots)
            else:
                self._waiting.remove(waiter)
                self._queued_tokens -= tokens
                self._admit_next()
            raise

    def _admit_next(self) -> None:
        while self._waiting and self._fits(self._waiting[0].tokens, self._waiting[0].slots):
            waiter = self._waiting.popleft()
            self._queued_tokens -= waiter.tokens
            self._take(waiter.tokens, waiter.slots)
            waiter.admitted.set_result(None)
