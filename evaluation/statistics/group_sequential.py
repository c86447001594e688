"""Group-sequential tests: several looks at a canary within one error budget. No numpy.

Alpha spending after Lan and DeMets (Biometrika 1983, 70, 659-663): the budget that may be used up by
information fraction t is a function fixed beforehand, while the number and times of looks stay free.
Boundaries come from the recursive integration of Armitage, McPherson and Rowe (JRSS A 1969, 132, 235-244)
on the score process, a Brownian motion B(t) with Z(t) = B(t) / sqrt(t).

An interval `estimate ± critical * standard error` with these critical values is a repeated confidence
interval (Jennison and Turnbull, JRSS B 1989, 51, 305-361): it covers at all looks together, whichever rule
ends the trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import NormalDist

SpendingFunction = Callable[[float, float], float]
"""(information fraction, alpha) to the part of a one-sided alpha that may be spent by then."""

_NORMAL = NormalDist()
_GRID = 257  # points per look, odd for Simpson's rule; boundaries are right to about 1e-4 with it
_LARGEST_CRITICAL = 8.5  # leaves a tail of 2e-17: as good as no look
_BISECTIONS = 50


def obrien_fleming(fraction: float, alpha: float) -> float:
    """Spends almost nothing early: a canary is stopped early only by a disaster. One-sided alpha."""
    return 2 * (1 - _NORMAL.cdf(_NORMAL.inv_cdf(1 - alpha / 2) / math.sqrt(fraction)))


def pocock(fraction: float, alpha: float) -> float:
    """Spends evenly: stops early more readily, and pays with a wider last look. One-sided alpha."""
    return alpha * math.log(1 + (math.e - 1) * fraction)


def critical_values(
    fractions: Sequence[float], alpha: float, spending: SpendingFunction = obrien_fleming
) -> list[float]:
    """Two-sided critical values of Z, one per look, for a total two-sided error `alpha`.

    `fractions` are the information fractions of the looks so far, rising, in (0, 1]; beyond the plan counts
    as 1, so a value above 1 may stand last. Raises ValueError for anything else.

    >>> [round(value, 2) for value in critical_values([0.5, 1.0], 0.05)]
    [2.96, 1.97]
    """
    times = _checked(fractions)
    criticals: list[float] = []
    process = _Process()
    spent = 0.0
    for number, time in enumerate(times):
        if number:
            process = process.advance(times[number - 1], criticals[-1] * math.sqrt(times[number - 1]))
        allowed = 2 * spending(time, alpha / 2)
        criticals.append(process.critical_for(time, max(0.0, allowed - spent)))
        spent = allowed
    return criticals


def crossing_probability(fractions: Sequence[float], criticals: Sequence[float], drift: float = 0.0) -> float:
    """The chance that |Z| passes its critical value at some look, when E[Z] at the full sample is `drift`.

    With no drift this is the type I error; with the drift of a true effect, the power.
    """
    crossed = 0.0
    process = _Process()
    for time, critical in zip(_checked(fractions), criticals, strict=True):
        bound = critical * math.sqrt(time)
        crossed += process.tail(time, bound, drift)
        process = process.advance(time, bound, drift)
    return crossed


def inflation_factor(
    fractions: Sequence[float], alpha: float, power: float, spending: SpendingFunction = obrien_fleming
) -> float:
    """How much larger the sample must be than a single look's, to keep the power with these looks.

    >>> round(inflation_factor([0.2, 0.4, 0.6, 0.8, 1.0], 0.05, 0.8), 2)
    1.02
    """
    criticals = critical_values(fractions, alpha, spending)
    single = _NORMAL.inv_cdf(1 - alpha / 2) + _NORMAL.inv_cdf(power)
    low, high = single * 0.5, single * 2.0
    for _ in range(_BISECTIONS):
        drift = (low + high) / 2
        if crossing_probability(fractions, criticals, drift) < power:
            low = drift
        else:
            high = drift
    return (high / single) ** 2


def _checked(fractions: Sequence[float]) -> list[float]:
    if not fractions:
        raise ValueError("a sequential test needs at least one look")
    if any(later <= earlier for earlier, later in pairwise(fractions)):
        raise ValueError(f"information fractions must rise from look to look, not {list(fractions)}")
    if fractions[0] <= 0 or any(fraction >= 1 for fraction in fractions[:-1]):
        raise ValueError(
            f"information fractions must lie in (0, 1], the first full look last: {list(fractions)}"
        )
    return [min(1.0, fraction) for fraction in fractions]


class _Process:
    """The score process given that no bound was crossed so far: its density on a grid, weights included."""

    def __init__(self, time: float = 0.0, points: Sequence[tuple[float, float]] = ((0.0, 1.0),)) -> None:
        self._time = time
        self._points = points

    def tail(self, time: float, bound: float, drift: float = 0.0) -> float:
        """The chance to be inside all bounds so far and outside ±bound at `time`."""
        step = math.sqrt(time - self._time) * math.sqrt(2)
        shift = drift * (time - self._time)
        return sum(
            weight * (math.erfc((bound - shift - at) / step) + math.erfc((bound + shift + at) / step)) / 2
            for at, weight in self._points
        )

    def critical_for(self, time: float, spend: float) -> float:
        """The critical value of Z at `time` whose tail is `spend`."""
        low, high = 0.0, _LARGEST_CRITICAL
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            if self.tail(time, middle * math.sqrt(time)) > spend:
                low = middle
            else:
                high = middle
        return high

    def advance(self, time: float, bound: float, drift: float = 0.0) -> _Process:
        """The process at `time`, kept where it lies within ±bound; Simpson's rule on an even grid."""
        variance = time - self._time
        shift = drift * variance
        scale = 1 / math.sqrt(2 * math.pi * variance)
        width = 2 * bound / (_GRID - 1)
        points = []
        for index in range(_GRID):
            at = -bound + index * width
            simpson = 1 if index in (0, _GRID - 1) else 4 if index % 2 else 2
            density = sum(
                weight * math.exp(-((at - shift - before) ** 2) / (2 * variance))
                for before, weight in self._points
            )
            points.append((at, density * scale * simpson * width / 3))
        return _Process(time, points)
