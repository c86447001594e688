"""Bootstrap intervals and paired comparisons over items or groups of items. Needs numpy.

All systems and metrics are resampled with the same counts, so every difference is paired. Intervals are
BCa (bias-corrected and accelerated) for smooth quantities and plain percentiles for quantiles, whose
jackknife is inconsistent. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13
and 14. A p-value is the interval turned round, so that the two never disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from contracts.interval import Interval
from evaluation.statistics.estimators import Counts, Estimator, Floats

_CELLS = 4_000_000  # counts held at once: 32 MB
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Replicates:
    """One quantity's value, its bootstrap replicates and its jackknife values (None where not smooth)."""

    value: float
    resampled: Floats
    left_out: Floats | None

    def minus(self, other: Replicates) -> Replicates:
        """The paired difference; both must come from the same call of `replicate`."""
        left_out = None
        if self.left_out is not None and other.left_out is not None:
            left_out = self.left_out - other.left_out
        return Replicates(self.value - other.value, self.resampled - other.resampled, left_out)

    def relative_to(self, other: Replicates) -> Replicates:
        """The paired relative difference, 0.1 for 10 % more; NaN where the other is zero."""
        with np.errstate(invalid="ignore", divide="ignore"):
            left_out = None
            if self.left_out is not None and other.left_out is not None:
                left_out = self.left_out / other.left_out - 1
            value = float(np.divide(self.value, other.value)) - 1
            return Replicates(value, self.resampled / other.resampled - 1, left_out)

    def interval(self, level: float = 0.95) -> Interval | None:
        """BCa or percentile limits; None where the quantity is undefined on the data or on most resamples."""
        sample = self.resampled[np.isfinite(self.resampled)]
        if not np.isfinite(self.value) or 2 * sample.size < self.resampled.size:
            return None
        tails, method = ((1 - level) / 2, (1 + level) / 2), "percentile bootstrap"
        correction = self._correction(sample)
        if correction:
            tails, method = (correction.of(tails[0]), correction.of(tails[1])), "BCa bootstrap"
        limits = np.quantile(sample, tails)
        return Interval(low=float(limits[0]), high=float(limits[1]), level=level, method=method)

    def p_value(self) -> float:
        """Two-sided, that the quantity is zero: the smallest alpha whose interval leaves zero out.

        1 where the quantity is undefined; never below what this many resamples can show.
        """
        sample = self.resampled[np.isfinite(self.resampled)]
        if not np.isfinite(self.value) or not sample.size:
            return 1.0
        share = (_share_below(sample, 0.0) * sample.size + 1) / (sample.size + 2)
        correction = self._correction(sample)
        if correction:
            share = correction.undone(share)
        return min(1.0, max(2 * min(share, 1 - share), 2 / (sample.size + 2)))

    def _correction(self, sample: Floats) -> _Correction | None:
        """BCa's correction; None where it is undefined and plain percentiles have to do."""
        if self.left_out is None or self.left_out.size < 2 or not np.isfinite(self.left_out).all():
            return None
        below = _share_below(sample, self.value)
        if not 0 < below < 1:
            return None
        deviations = self.left_out.mean() - self.left_out
        spread = float((deviations**2).sum())
        acceleration = float((deviations**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
        return _Correction(_NORMAL.inv_cdf(below), acceleration)


@dataclass(frozen=True)
class _Correction:
    """Which quantile of the replicates stands for a nominal one, and back."""

    bias: float
    acceleration: float

    def of(self, nominal: float) -> float:
        shifted = self.bias + _NORMAL.inv_cdf(nominal)
        return _NORMAL.cdf(self.bias + shifted / (1 - self.acceleration * shifted))

    def undone(self, corrected: float) -> float:
        shifted = _NORMAL.inv_cdf(corrected) - self.bias
        return _NORMAL.cdf(shifted / (1 + self.acceleration * shifted) - self.bias)


def replicate(
    estimators: Sequence[Estimator],
    items: int,
    *,
    resamples: int,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> list[Replicates]:
    """Each estimator's value, bootstrap replicates and jackknife over the same resamples.

    `groups` gives each item's group number, 0 and up without gaps: whole groups are then drawn, since items
    of one user or conversation are not independent. Memory stays bounded whatever the size.
    """
    if items < 1 or resamples < 1:
        raise ValueError(f"a bootstrap needs items and resamples, not {items} and {resamples}")
    codes = np.arange(items) if groups is None else groups
    ones = np.ones((1, items), dtype=np.int64)
    points = [float(estimator.values(ones)[0]) for estimator in estimators]
    drawn = _evaluate(estimators, _draws(codes, resamples, seed))
    smooth = [estimator for estimator in estimators if estimator.smooth]
    left_out = iter(_evaluate(smooth, _leave_one_out(codes)))
    return [
        Replicates(point, resampled, next(left_out) if estimator.smooth else None)
        for point, resampled, estimator in zip(points, drawn, estimators, strict=True)
    ]


def _evaluate(estimators: Sequence[Estimator], chunks: Iterator[Counts]) -> list[Floats]:
    parts: list[list[Floats]] = [[] for _ in estimators]
    for counts in chunks:
        for part, estimator in zip(parts, estimators, strict=True):
            part.append(estimator.values(counts))
    return [np.concatenate(part) for part in parts]


def _draws(codes: Counts, resamples: int, seed: int) -> Iterator[Counts]:
    generator = np.random.default_rng(seed)
    groups = int(codes.max()) + 1
    shares = np.full(groups, 1 / groups)
    for size in _chunk_sizes(resamples, len(codes)):
        yield generator.multinomial(groups, shares, size=size)[:, codes]


def _leave_one_out(codes: Counts) -> Iterator[Counts]:
    first = 0
    for size in _chunk_sizes(int(codes.max()) + 1, len(codes)):
        yield (codes[None, :] != np.arange(first, first + size)[:, None]).astype(np.int64)
        first += size


def _chunk_sizes(rows: int, columns: int) -> Iterator[int]:
    step = max(1, _CELLS // columns)
    for first in range(0, rows, step):
        yield min(step, rows - first)


def _share_below(sample: Floats, value: float) -> float:
    """The share of the sample below a value, ties counted half; equal but for rounding is a tie."""
    rounding = 1e-9 * float(sample.std())
    below = np.mean(sample < value - rounding)
    return float(below + np.mean(np.abs(sample - value) <= rounding) / 2)
