"""Means of continuous outcomes and their difference between two independent samples. No numpy.

Latency is compared on the logarithm: its difference of means is a ratio of geometric means, and the long
tail no longer decides alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MINIMUM_PER_ARM = 30
"""Below this many observations per arm the normal approximation of a mean is not trusted."""


@dataclass(frozen=True)
class Moments:
    """Sample size, mean and sample variance (n - 1 in the denominator)."""

    count: int
    mean: float
    variance: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Moments:
        """Moments of the values, in one pass (Welford), so that large offsets cost no precision.

        >>> Moments.of([1.0, 2.0, 3.0])
        Moments(count=3, mean=2.0, variance=1.0)
        """
        count, mean, squares = 0, 0.0, 0.0
        for value in values:
            count += 1
            step = value - mean
            mean += step / count
            squares += step * (value - mean)
        return cls(count, mean, squares / (count - 1) if count > 1 else 0.0)

    @classmethod
    def of_logarithms(cls, values: Iterable[float]) -> Moments:
        """Moments of the natural logarithms. Raises ValueError for a value that is not above zero."""
        return cls.of(math.log(value) for value in values)


def difference_limits(control: Moments, treated: Moments, critical: float) -> tuple[float, float] | None:
    """Normal limits of treated minus control with unequal variances; None where either arm is too small."""
    if min(control.count, treated.count) < MINIMUM_PER_ARM:
        return None
    deviation = math.sqrt(control.variance / control.count + treated.variance / treated.count)
    difference = treated.mean - control.mean
    return difference - critical * deviation, difference + critical * deviation
