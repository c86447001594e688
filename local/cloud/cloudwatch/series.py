"""Time series and the window they are read in. Moments are starts of periods, in epoch seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Window:
    """`[start, end)` in seconds. Periods begin at `origin` plus whole multiples of their length."""

    start: int
    end: int
    origin: int = 0

    def period_of(self, moment: float, period: int) -> int:
        """The start of the period that a moment lies in."""
        return self.origin + math.floor((moment - self.origin) / period) * period

    def moments(self, period: int) -> range:
        """The starts of all periods that begin in the window."""
        first = self.period_of(self.start + period - 1, period)
        return range(first, self.end, period)


@dataclass(frozen=True)
class Series:
    """Values by moment, with the period they stand for. A moment without a value is missing."""

    values: Mapping[int, float]
    period: int
    label: str = ""
    dimensions: Mapping[str, str] = field(default_factory=dict)

    def with_values(self, values: Iterable[tuple[int, float]]) -> Series:
        """The same series with other values; what is not a finite number is dropped."""
        return replace(self, values={moment: value for moment, value in values if math.isfinite(value)})

    def ordered(self) -> list[tuple[int, float]]:
        """Moments and values, oldest first."""
        return sorted(self.values.items())


def moments_of(series: Iterable[Series]) -> list[int]:
    """Every moment at which at least one of the series has a value."""
    return sorted({moment for one in series for moment in one.values})
