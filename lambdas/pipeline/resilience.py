"""Stops calling a target that is down, so that callers hear it at once instead of after a timeout.

Source: M. Nygard, "Release It!", circuit breaker. State is per process: each sandbox finds out by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable

FAILURES_TO_OPEN = 5
OPEN_SECONDS = 5.0


class CircuitBreaker:
    """Opens after FAILURES_TO_OPEN outages in a row; every OPEN_SECONDS one call tries whether it is over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._closed_again_at = float("-inf")

    def seconds_until_next_try(self) -> float:
        """0 when a call may be made, otherwise how long to wait. Who is let through uses up the turn."""
        if self._failures < FAILURES_TO_OPEN:
            return 0.0
        wait = self._closed_again_at - self._clock()
        if wait > 0:
            return wait
        self._closed_again_at = self._clock() + OPEN_SECONDS
        return 0.0

    def succeeded(self) -> None:
        """The target answered, if only to refuse."""
        self._failures = 0

    def failed(self) -> None:
        """The target was down."""
        self._failures += 1
        self._closed_again_at = self._clock() + OPEN_SECONDS
