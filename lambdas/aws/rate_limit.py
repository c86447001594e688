"""A token bucket in one number, so that one conditional write both asks and takes. Pure.

Source: the generic cell rate algorithm (ITU-T I.371): a bucket is the moment when it will be full again.
Times are whole microseconds since the epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """`interval` is what a request adds to the moment; `tolerance`, how far ahead it may be before that."""

    interval: int
    tolerance: int
    burst: int

    @classmethod
    def of(cls, per_second: float, burst: int | None = None) -> Rate:
        """A sustained rate, and how many requests may come at one moment (the rate rounded up)."""
        interval = max(1, math.ceil(1_000_000 / per_second))
        depth = burst or max(1, math.ceil(per_second))
        return cls(interval, (depth - 1) * interval, depth)

    def remaining(self, full_at: int, now: int) -> int:
        """Requests that could come at this moment."""
        ahead = max(0, full_at - now)
        return max(0, (self.tolerance + self.interval - ahead) // self.interval)

    def wait(self, full_at: int, now: int) -> float:
        """Seconds until one more may come; 0 where it may now."""
        return max(0, full_at - self.tolerance - now) / 1e6
