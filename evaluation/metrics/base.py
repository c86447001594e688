"""What a metric is: one record with its name, unit, direction, formula, needs and scoring function.

A metric scores a list of predictions into an estimator (so that it can be resampled) and, where one exists,
a value per item. Adding a metric is adding a record to the registry in `evaluation.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.predictions import Prediction
from contracts.report import MetricInfo, Unit
from evaluation.statistics.estimators import Estimator, Floats, PartialEstimator, mean_of


@dataclass(frozen=True)
class Scores:
    """A metric's outcome on one system. `items` has shape (n,), NaN where an item has no value.

    `binary` marks item values that are all 0 or 1: their rates get Wilson intervals.
    """

    estimator: Estimator
    items: Floats | None
    used: int
    binary: bool = False


@dataclass(frozen=True)
class Metric:
    """One metric. `needs` says whether a prediction carries what the metric reads; without `needs_all` the
    metric itself passes over items that do not."""

    name: str
    title: str
    unit: Unit
    higher_is_better: bool
    formula: str
    needs: Callable[[Prediction], bool]
    score: Callable[[Sequence[Prediction]], Scores]
    needs_all: bool = True

    @property
    def info(self) -> MetricInfo:
        """The part that reports publish."""
        return MetricInfo(
            name=self.name,
            title=self.title,
            unit=self.unit,
            higher_is_better=self.higher_is_better,
            formula=self.formula,
        )

    def carried(self, systems: Sequence[Sequence[Prediction]]) -> NDArray[np.bool_]:
        """Which items carry what the metric reads in every system's predictions; shape (items,)."""
        return np.array([all(map(self.needs, answers)) for answers in zip(*systems, strict=True)], dtype=bool)

    def score_some(self, predictions: Sequence[Prediction], carried: NDArray[np.bool_]) -> Scores:
        """The scores over the items that carry what is read; the others have no value and weigh nothing."""
        if not self.needs_all or carried.all():
            return self.score(predictions)
        kept = np.flatnonzero(carried)
        scores = self.score([predictions[int(place)] for place in kept])
        items = None
        if scores.items is not None:
            items = np.full(len(predictions), np.nan)
            items[kept] = scores.items
        return Scores(PartialEstimator(scores.estimator, kept), items, scores.used, scores.binary)


def mean_scores(values: Sequence[float], *, binary: bool = False) -> Scores:
    """Scores whose value is the mean of the item values; NaN marks items without one."""
    items = np.asarray(values, dtype=np.float64)
    return Scores(mean_of(items), items, int((~np.isnan(items)).sum()), binary)


def best_reference(
    compare: Callable[[str, str], float],
) -> Callable[[Sequence[Prediction]], list[float]]:
    """Item values: the best of `compare(reference, prediction)` over the references; 0 for a failed item."""

    def score(predictions: Sequence[Prediction]) -> list[float]:
        return [
            0.0
            if prediction.error is not None
            else max(compare(reference, prediction.prediction) for reference in prediction.references)
            for prediction in predictions
        ]

    return score


def has_references(prediction: Prediction) -> bool:
    """Whether right answers are given."""
    return bool(prediction.references)
