"""Quantities that can be computed again on a resampled set of items, in bulk. Needs numpy.

An estimator knows its items and answers one question: what is your value when item i counts c_i times?
Counts come as an integer array of shape (resamples, items); values go back with shape (resamples,). Counts
of one give the value itself, so point estimate, bootstrap and jackknife share one formula.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class Estimator(Protocol):
    """See the module. `smooth` is true where the jackknife is consistent, which it is not for quantiles."""

    @property
    def smooth(self) -> bool: ...

    def values(self, counts: Counts) -> Floats:
        """The quantity for each row of counts; NaN where a resample leaves it undefined."""
        ...


@dataclass(frozen=True)
class SumEstimator:
    """A function of summed statistics: a mean, corpus BLEU, F1 from its confusion counts.

    `statistics` has shape (items, k); `finish` maps sums of shape (m, k) to values of shape (m,).
    """

    statistics: Floats
    finish: Callable[[Floats], Floats]
    smooth: bool = True

    def values(self, counts: Counts) -> Floats:
        """The finished sums."""
        return self.finish(counts @ self.statistics)


@dataclass(frozen=True)
class PartialEstimator:
    """An estimator that knows some of the items only: `kept`, shape (kept items,), are their places."""

    estimator: Estimator
    kept: NDArray[np.int64]

    @property
    def smooth(self) -> bool:
        """As the estimator within."""
        return self.estimator.smooth

    def values(self, counts: Counts) -> Floats:
        """The quantity over the kept items; NaN where a resample holds none of them."""
        some = counts[:, self.kept]
        values = self.estimator.values(some)
        empty = some.sum(axis=1) == 0
        return np.where(empty, np.nan, values) if empty.any() else values


@dataclass(frozen=True)
class QuantileEstimator:
    """A quantile with linear interpolation (numpy's default) over the items that have a value.

    `items` has shape (items,), NaN where an item has no value; `level` lies in [0, 1].
    """

    items: Floats
    level: float
    smooth: bool = False

    def values(self, counts: Counts) -> Floats:
        """The quantile of each resample."""
        present = np.flatnonzero(~np.isnan(self.items))
        if not present.size:
            return np.full(len(counts), np.nan)
        order = present[np.argsort(self.items[present], kind="stable")]
        ranked = self.items[order]
        upto = np.cumsum(counts[:, order], axis=1)
        total = upto[:, -1]
        position = np.maximum(total - 1, 0) * self.level
        below = np.floor(position)
        lower = ranked[_place(upto, below)]
        upper = ranked[_place(upto, np.minimum(below + 1, np.maximum(total - 1, 0)))]
        result: Floats = lower + (position - below) * (upper - lower)
        result[total == 0] = np.nan
        return result


def _place(upto: Counts, position: Floats) -> Counts:
    """The rank of the item at a position of the resample written out in order."""
    place: Counts = np.minimum((upto <= position[:, None]).sum(axis=1), upto.shape[1] - 1)
    return place


@dataclass(frozen=True)
class AucEstimator:
    """Area under the ROC curve, macro-averaged one class against the rest. Source: Hanley and McNeil 1982.

    `scores` has shape (items, classes), `positive` is its boolean mask of right classes. With two classes
    whose scores add up to one this is the usual binary area. NaN where a class is absent or alone.
    """

    scores: Floats
    positive: NDArray[np.bool_]
    smooth: bool = True

    def values(self, counts: Counts) -> Floats:
        """The mean of the classes' areas for each resample."""
        areas = [self._area(column, counts) for column in range(self.scores.shape[1])]
        result: Floats = np.mean(areas, axis=0)
        return result

    def _area(self, column: int, counts: Counts) -> Floats:
        scores, positive = self.scores[:, column], self.positive[:, column]
        order = np.argsort(scores, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
        weighted = counts[:, order]
        rights = np.add.reduceat(weighted * positive[order], starts, axis=1)
        wrongs = np.add.reduceat(weighted * ~positive[order], starts, axis=1)
        beaten = np.cumsum(wrongs, axis=1) - wrongs / 2  # ties count half
        pairs = rights.sum(axis=1) * wrongs.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            area: Floats = (rights * beaten).sum(axis=1) / pairs
        return area


def ratio(sums: Floats) -> Floats:
    """First column by second: the finish of a mean; NaN where nothing was summed.

    >>> ratio(np.array([[3.0, 4.0]]))
    array([0.75])
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient: Floats = sums[:, 0] / sums[:, 1]
    return quotient


def mean_of(items: Floats) -> SumEstimator:
    """The mean over the items that have a value (are not NaN)."""
    present = ~np.isnan(items)
    return SumEstimator(np.column_stack([np.where(present, items, 0.0), present]).astype(np.float64), ratio)
