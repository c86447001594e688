"""Confidence sequences: intervals that hold at every moment at once, for watching without an end. No numpy.

A fixed-sample interval watched forever is wrong sooner or later with certainty; a confidence sequence at
level 1 - alpha is wrong at any time with probability at most alpha. It is wider: the price of no plan.
Observations are taken as independent with a constant mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from contracts.interval import Interval
from evaluation.statistics.proportions import Proportion

_BISECTIONS = 60


def proportion_confseq(rate: Proportion, alpha: float, prior: float = 0.5) -> Interval:
    """Confidence sequence of a rate from its counts alone: Robbins' beta-binomial mixture.

    Under the rate p the mixture likelihood ratio B(a + events, b + misses) / (B(a, b) p^events (1-p)^misses)
    is a martingale, so by Ville's inequality it stays below 1 / alpha forever with probability 1 - alpha;
    the rates it does not exclude make up the interval. `prior` is a = b. Source: Robbins 1970, Annals of
    Mathematical Statistics 41, 1397-1409.

    >>> bound = proportion_confseq(Proportion(0, 100), 0.05)
    >>> bound.low, round(bound.high, 3)
    (0.0, 0.057)
    """
    if rate.trials == 0:
        return Interval(low=0, high=1, level=1 - alpha, method="beta-binomial sequence")
    misses = rate.trials - rate.events
    mixture = _log_beta(prior + rate.events, prior + misses) - _log_beta(prior, prior)

    def excluded(value: float) -> bool:
        likelihood = 0.0
        if rate.events:
            likelihood += rate.events * math.log(value) if value > 0 else -math.inf
        if misses:
            likelihood += misses * math.log1p(-value) if value < 1 else -math.inf
        return mixture - likelihood >= math.log(1 / alpha)

    low = _edge(excluded, inside=rate.value, outside=0.0)
    high = _edge(excluded, inside=rate.value, outside=1.0)
    return Interval(low=low, high=high, level=1 - alpha, method="beta-binomial sequence")


@dataclass(frozen=True)
class MeanConfidenceSequence:
    """Confidence sequence of a mean of outcomes in [0, 1], taken one by one in the order they arrived.

    Predictable plug-in empirical Bernstein: narrow where outcomes vary little. Source: Waudby-Smith and
    Ramdas 2024, JRSS B 86, 1-27, theorem 2. Immutable: `add` returns the next state, so it can be stored
    between two invocations.
    """

    alpha: float
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    bet_total: float = 0.0
    bet_outcomes: float = 0.0
    penalty: float = 0.0
    low: float = 0.0
    high: float = 1.0

    def add(self, outcome: float) -> MeanConfidenceSequence:
        """The state after one more outcome. Raises ValueError outside [0, 1]."""
        if not 0 <= outcome <= 1:
            raise ValueError(f"outcomes must lie in [0, 1], not {outcome}")
        count = self.count + 1
        mean_before = (0.5 + self.total) / count
        variance_before = (0.25 + self.squares) / count
        log_term = math.log(2 / self.alpha)
        bet = min(0.5, math.sqrt(2 * log_term / (variance_before * count * math.log(1 + count))))
        total = self.total + outcome
        mean = (0.5 + total) / (count + 1)
        bet_total = self.bet_total + bet
        bet_outcomes = self.bet_outcomes + bet * outcome
        penalty = self.penalty + (outcome - mean_before) ** 2 * (-math.log1p(-bet) - bet)
        centre, half = bet_outcomes / bet_total, (log_term + penalty) / bet_total
        # Limits only ever tighten: what was excluded once stays excluded. A crossing is kept ordered.
        low = max(self.low, min(centre - half, self.high))
        return MeanConfidenceSequence(
            alpha=self.alpha,
            count=count,
            total=total,
            squares=self.squares + (outcome - mean) ** 2,
            bet_total=bet_total,
            bet_outcomes=bet_outcomes,
            penalty=penalty,
            low=low,
            high=max(low, min(self.high, centre + half)),
        )

    def add_all(self, outcomes: Iterable[float]) -> MeanConfidenceSequence:
        """The state after several outcomes, in order."""
        state = self
        for outcome in outcomes:
            state = state.add(outcome)
        return state

    @property
    def interval(self) -> Interval:
        """The interval now; [0, 1] before the first outcome."""
        return Interval(
            low=self.low, high=self.high, level=1 - self.alpha, method="empirical Bernstein sequence"
        )


def difference(control: Interval, treated: Interval) -> Interval:
    """Treated minus control from two intervals by the union bound: give each arm half of the error."""
    level = 1 - (1 - control.level) - (1 - treated.level)
    return Interval(
        low=treated.low - control.high,
        high=treated.high - control.low,
        level=level,
        method=f"{treated.method}, both arms",
    )


def _log_beta(first: float, second: float) -> float:
    return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)


def _edge(excluded: Callable[[float], bool], inside: float, outside: float) -> float:
    if not excluded(outside):
        return outside
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        if excluded(middle):
            outside = middle
        else:
            inside = middle
    return outside
