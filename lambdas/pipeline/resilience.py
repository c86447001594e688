"""What protects a failing endpoint: a circuit breaker, and retries as a share of requests.

Sources: M. Nygard, "Release It!", circuit breaker; retry budgets of Finagle and gRPC ("Retry throttling").
State is per process: each sandbox finds out by itself.
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


class RetryBudget:
    """Each request earns `share` of a retry, up to `cap`; each retry costs one."""

    def __init__(self, share: float = 0.1, cap: float = 5.0) -> None:
        self._share = share
        self._cap = cap
        self._tokens = cap

    def request(self) -> None:
        """Count a first attempt."""
        self._tokens = min(self._cap, self._tokens + self._share)

    def take(self) -> bool:
        """Take one retry; False when the budget is spent."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
