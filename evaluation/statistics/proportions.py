"""Rates and their differences: intervals that stay honest when events are few. No numpy.

The plain normal interval claims certainty when nothing happened (0 of 50 is not "exactly 0 %"); every
interval here keeps a width then. `critical` is a standard normal quantile; group-sequential tests pass
their own (see `group_sequential`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from contracts.interval import Interval


@dataclass(frozen=True)
class Proportion:
    """`events` out of `trials`."""

    events: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.events <= self.trials:
            raise ValueError(f"{self.events} events out of {self.trials} trials is not a rate")

    @property
    def value(self) -> float:
        """Events per trial; 0 without trials."""
        return self.events / self.trials if self.trials else 0.0


def two_sided_critical_value(alpha: float) -> float:
    """The normal quantile that leaves alpha / 2 on either side.

    >>> round(two_sided_critical_value(0.05), 3)
    1.96
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    return NormalDist().inv_cdf(1 - alpha / 2)


def wilson_limits(rate: Proportion, critical: float) -> tuple[float, float]:
    """Wilson's score limits of one rate; (0, 1) without trials. Source: Wilson 1927, JASA 22, 209-212."""
    if rate.trials == 0:
        return 0.0, 1.0
    spread = critical**2 / rate.trials
    centre = (rate.value + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (rate.value * (1 - rate.value) + spread / 4)) / (1 + spread)
    # At the ends rounding can leave the limit a hair off the exact 0 or 1.
    low = 0.0 if rate.events == 0 else max(0.0, centre - half)
    high = 1.0 if rate.events == rate.trials else min(1.0, centre + half)
    return low, high


def wilson(rate: Proportion, level: float = 0.95) -> Interval:
    """Wilson's interval of one rate.

    >>> zero = wilson(Proportion(0, 50))
    >>> zero.low, round(zero.high, 3)
    (0.0, 0.071)
    """
    low, high = wilson_limits(rate, two_sided_critical_value(1 - level))
    return Interval(low=low, high=high, level=level, method="Wilson")


def newcombe_limits(control: Proportion, treated: Proportion, critical: float) -> tuple[float, float]:
    """Limits of treated minus control for independent samples: Newcombe's hybrid score interval.

    Source: Newcombe 1998, Statistics in Medicine 17, 873-890, method 10.
    """
    control_low, control_high = wilson_limits(control, critical)
    treated_low, treated_high = wilson_limits(treated, critical)
    difference = treated.value - control.value
    return (
        difference - math.hypot(treated.value - treated_low, control_high - control.value),
        difference + math.hypot(treated_high - treated.value, control.value - control_low),
    )


def paired_proportion_limits(gained: int, lost: int, items: int, critical: float) -> tuple[float, float]:
    """Limits of the difference of two rates measured on the same items: Agresti and Min's adjusted interval.

    `gained` items are right for the candidate alone, `lost` for the baseline alone. Half an item is added to
    each of the four cells, so identical systems still get an interval that narrows with the sample.
    Source: Agresti and Min 2005, Statistics in Medicine 24, 729-740.
    """
    if gained < 0 or lost < 0 or gained + lost > items:
        raise ValueError(f"{gained} gained and {lost} lost do not fit into {items} items")
    total = items + 2
    gained_share, lost_share = (gained + 0.5) / total, (lost + 0.5) / total
    difference = gained_share - lost_share
    deviation = math.sqrt((gained_share + lost_share - difference**2) / total)
    return max(-1.0, difference - critical * deviation), min(1.0, difference + critical * deviation)


def mcnemar_p_value(gained: int, lost: int) -> float:
    """Two-sided exact p-value that gains and losses are equally likely (McNemar's test, binomial form).

    >>> mcnemar_p_value(0, 0)
    1.0
    >>> round(mcnemar_p_value(9, 1), 4)
    0.0215
    """
    discordant = gained + lost
    tail = sum(math.comb(discordant, count) for count in range(min(gained, lost) + 1))
    both_tails: float = 2 * tail / 2**discordant
    return min(1.0, both_tails)
