"""Retries as a share of requests, so that a failing endpoint is not hit twice as hard.

Source: the retry budgets of Finagle and gRPC ("Retry throttling").
"""

from __future__ import annotations


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
