"""Bootstrap intervals and paired comparisons over items or groups of items. Needs numpy.

All systems and metrics share the same resamples, so every difference is paired. Intervals are
BCa (bias-corrected and accelerated) for smooth quantities and plain percentiles for quantiles, whose
jackknife is inconsistent. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13
and 14. A p-value inverts the interval, so that the two never disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from contracts.interval import Interval
from evaluation.statistics.estimators import Counts, Estimator, Floats

_CELLS = 4_000_000  # counts held at once, of 8 bytes each: 32 MB
_NORMAL = NormalDist()


@dataclass(frozen=True)
class BootstrapResult:
    """One quantity's bootstrap; all figures are in the quantity's own unit.

    `value` is the estimate on the data. `distribution`, of shape [resamples], is the bootstrap distribution;
    NaN where a resample leaves the quantity undefined. `jackknife`, of shape [groups], or [items] where items
    are not grouped, holds the leave-one-out values; None where the jackknife is inconsistent.
    """

    value: float
    distribution: Floats
    jackknife: Floats | None

    def minus(self, other: BootstrapResult) -> BootstrapResult:
        """The paired difference; both must come from the same call of `bootstrap`."""
        jackknife = None
        if self.jackknife is not None and other.jackknife is not None:
            jackknife = self.jackknife - other.jackknife
        return BootstrapResult(self.value - other.value, self.distribution - other.distribution, jackknife)

    def relative_to(self, other: BootstrapResult) -> BootstrapResult:
        """The paired relative difference, 0.1 for 10 % more; NaN where the other is zero."""
        with np.errstate(invalid="ignore", divide="ignore"):
            jackknife = None
            if self.jackknife is not None and other.jackknife is not None:
                jackknife = self.jackknife / other.jackknife - 1
            value = float(np.divide(self.value, other.value)) - 1
            return BootstrapResult(value, self.distribution / other.distribution - 1, jackknife)

    def interval(self, level: float = 0.95) -> Interval | None:
        """BCa or percentile limits; None where the quantity is undefined on the data or on most resamples."""
        sample = self.distribution[np.isfinite(self.distribution)]
        if not np.isfinite(self.value) or 2 * sample.size < self.distribution.size:
            return None
        tails, method = ((1 - level) / 2, (1 + level) / 2), "percentile bootstrap"
        correction = self._correction(sample)
        if correction:
            tails, method = (correction.adjusted(tails[0]), correction.adjusted(tails[1])), "BCa bootstrap"
        limits = np.quantile(sample, tails)
        return Interval(low=float(limits[0]), high=float(limits[1]), level=level, method=method)

    def p_value(self) -> float:
        """Two-sided, that the quantity is zero: the smallest alpha whose interval leaves zero out.

        1 where the quantity is undefined; never below what this many resamples can show.
        """
        sample = self.distribution[np.isfinite(self.distribution)]
        if not np.isfinite(self.value) or not sample.size:
            return 1.0
        share = (_share_below(sample, 0.0) * sample.size + 1) / (sample.size + 2)
        correction = self._correction(sample)
        if correction:
            share = correction.nominal(share)
        return min(1.0, max(2 * min(share, 1 - share), 2 / (sample.size + 2)))

    def _correction(self, sample: Floats) -> _BiasCorrection | None:
        """BCa's correction; None where it is undefined and plain percentiles have to do."""
        if self.jackknife is None or self.jackknife.size < 2 or not np.isfinite(self.jackknife).all():
            return None
        below = _share_below(sample, self.value)
        if not 0 < below < 1:
            return None
        deviations = self.jackknife.mean() - self.jackknife
        spread = float((deviations**2).sum())
        acceleration = float((deviations**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
        return _BiasCorrection(_NORMAL.inv_cdf(below), acceleration)


@dataclass(frozen=True)
class _BiasCorrection:
    """BCa's map from a nominal tail probability to the adjusted one, and its inverse."""

    bias: float
    acceleration: float

    def adjusted(self, nominal: float) -> float:
        shifted = self.bias + _NORMAL.inv_cdf(nominal)
        return _NORMAL.cdf(self.bias + shifted / (1 - self.acceleration * shifted))

    def nominal(self, adjusted: float) -> float:
        shifted = _NORMAL.inv_cdf(adjusted) - self.bias
        return _NORMAL.cdf(shifted / (1 + self.acceleration * shifted) - self.bias)


def bootstrap(
    estimators: Sequence[Estimator],
    items: int,
    *,
    resamples: int,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> list[BootstrapResult]:
    """The bootstrap of each estimator, all over the same resamples, in bounded memory.

    Args:
        estimators: the quantities; each is evaluated on the same counts of shape [resamples, items].
        items: number of items in the data.
        resamples: number of bootstrap resamples.
        seed: seed of the generator; the same seed gives the same figures.
        groups: shape [items], each item's group number, 0 and up without gaps. Whole groups are then drawn,
            since items of one user or conversation are not independent. None draws single items.

    Returns:
        One result per estimator, in order.

    Raises:
        ValueError: without items or resamples.
    """
    if items < 1 or resamples < 1:
        raise ValueError(f"a bootstrap needs items and resamples, not {items} and {resamples}")
    group_of = np.arange(items) if groups is None else groups
    ones = np.ones((1, items), dtype=np.int64)
    points = [float(estimator.values(ones)[0]) for estimator in estimators]
    drawn = _evaluate(estimators, _bootstrap_counts(group_of, resamples, seed))
    smooth = [estimator for estimator in estimators if estimator.smooth]
    jackknife = iter(_evaluate(smooth, _jackknife_counts(group_of)))
    return [
        BootstrapResult(point, distribution, next(jackknife) if estimator.smooth else None)
        for point, distribution, estimator in zip(points, drawn, estimators, strict=True)
    ]


def _evaluate(estimators: Sequence[Estimator], chunks: Iterator[Counts]) -> list[Floats]:
    """Each estimator's values, shape [rows], over chunks of counts of shape [some rows, items]."""
    parts: list[list[Floats]] = [[] for _ in estimators]
    for counts in chunks:
        for part, estimator in zip(parts, estimators, strict=True):
            part.append(estimator.values(counts))
    return [np.concatenate(part) for part in parts]


def _bootstrap_counts(group_of: NDArray[np.int64], resamples: int, seed: int) -> Iterator[Counts]:
    """Chunks of counts of shape [some resamples, items]: how often each resample draws each item.

    `group_of` has shape [items]; items of one group have the same count. The chunks hold `resamples` rows.
    """
    generator = np.random.default_rng(seed)
    groups = int(group_of.max()) + 1
    probabilities = np.full(groups, 1 / groups)
    for size in _chunk_sizes(resamples, len(group_of)):
        yield generator.multinomial(groups, probabilities, size=size)[:, group_of]


def _jackknife_counts(group_of: NDArray[np.int64]) -> Iterator[Counts]:
    """Chunks of counts of shape [some groups, items]: row g counts every item outside group g once.

    `group_of` has shape [items]. The chunks hold one row per group.
    """
    first = 0
    for size in _chunk_sizes(int(group_of.max()) + 1, len(group_of)):
        yield (group_of[None, :] != np.arange(first, first + size)[:, None]).astype(np.int64)
        first += size


def _chunk_sizes(rows: int, columns: int) -> Iterator[int]:
    """Numbers of rows that add up to `rows`, so that no chunk holds more than `_CELLS` counts."""
    step = max(1, _CELLS // columns)
    for first in range(0, rows, step):
        yield min(step, rows - first)


def _share_below(sample: Floats, value: float) -> float:
    """The share of the sample below a value, ties counted half; equal but for rounding is a tie."""
    rounding = 1e-9 * float(sample.std())
    below = np.mean(sample < value - rounding)
    return float(below + np.mean(np.abs(sample - value) <= rounding) / 2)
