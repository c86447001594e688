"""Scores of one or two systems on one set of items, with intervals and paired differences.

Everything is computed on the same resamples, so differences are paired. Which interval a figure gets:
rates of independent items Wilson's, their paired differences Agresti and Min's (both keep a width when
nothing happened); all else the bootstrap, which is also used for rates where items come in groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.interval import Interval
from contracts.predictions import Prediction
from contracts.report import Bin, MetricResult, PairedComparison
from evaluation.metrics.base import Metric, Scores
from evaluation.statistics.bootstrap import BootstrapResult, bootstrap
from evaluation.statistics.estimators import Floats
from evaluation.statistics.proportions import (
    Proportion,
    mcnemar_p_value,
    paired_proportion_limits,
    two_sided_critical_value,
    wilson,
)

_BINS = 21
_TIE = 1e-12

Answers = Mapping[str, Sequence[Prediction]]
"""By system name; the same items in the same order for each."""


@dataclass(frozen=True)
class Measured:
    """One metric of one system."""

    metric: Metric
    scores: Scores
    bootstrap_result: BootstrapResult


@dataclass(frozen=True)
class Difference:
    """Candidate minus baseline for one metric."""

    value: float
    interval: Interval | None
    p_value: float


@dataclass(frozen=True)
class Measurement:
    """All systems and metrics over one set of items; `slice` names it, None for the whole.

    `units` are what was resampled, by metric: the items that it could use, or the groups they come in.
    """

    table: dict[str, dict[str, Measured]]
    items: int
    units: Mapping[str, int]
    grouped: bool
    slice: str | None

    def results(self, level: float) -> list[MetricResult]:
        """Every metric of every system that has a value here."""
        return [
            MetricResult(
                metric=name,
                system=system,
                value=measured.bootstrap_result.value,
                interval=self.interval(system, name, level),
                items=measured.scores.used,
                slice=self.slice,
            )
            for system, row in self.table.items()
            for name, measured in row.items()
            if np.isfinite(measured.bootstrap_result.value)
        ]

    def left_out(self, metric: str) -> int:
        """Items without what a metric reads."""
        return self.items - next(iter(self.table.values()))[metric].scores.used

    def interval(self, system: str, metric: str, level: float) -> Interval | None:
        """The interval of one system's value; None where the data do not give one."""
        measured = self.table[system][metric]
        items = measured.scores.items
        if self._independent_rate(measured) and items is not None:
            return wilson(Proportion(int(np.nansum(items)), measured.scores.used), level)
        return measured.bootstrap_result.interval(level)

    def difference(self, metric: str, level: float, *, relative: bool = False) -> Difference:
        """Candidate minus baseline; with `relative` as a share of the baseline, 0.1 for 10 % more."""
        baseline, candidate = (row[metric] for row in self.table.values())
        before, after = baseline.scores.items, candidate.scores.items
        if relative:
            replicates = candidate.bootstrap_result.relative_to(baseline.bootstrap_result)
        else:
            replicates = candidate.bootstrap_result.minus(baseline.bootstrap_result)
            if self._independent_rate(baseline) and before is not None and after is not None:
                return _rate_difference(before, after, level)
        return Difference(replicates.value, replicates.interval(level), replicates.p_value())

    def comparisons(self, level: float) -> list[PairedComparison]:
        """Candidate against baseline for each metric whose difference has an interval."""
        if len(self.table) < 2:
            return []
        baseline, candidate = self.table
        found = []
        for name, measured in self.table[baseline].items():
            difference = self.difference(name, level)
            if difference.interval is None:
                continue
            items = _item_differences(measured.scores.items, self.table[candidate][name].scores.items)
            gain = items if measured.metric.higher_is_better or items is None else -items
            found.append(
                PairedComparison(
                    metric=name,
                    baseline=baseline,
                    candidate=candidate,
                    difference=difference.value,
                    interval=difference.interval,
                    p_value=difference.p_value,
                    items=measured.scores.used,
                    wins=None if gain is None else int((gain > _TIE).sum()),
                    ties=None if gain is None else int((np.abs(gain) <= _TIE).sum()),
                    losses=None if gain is None else int((gain < -_TIE).sum()),
                    histogram=[] if items is None else histogram(items),
                    slice=self.slice,
                )
            )
        return found

    def _independent_rate(self, measured: Measured) -> bool:
        return measured.scores.binary and not self.grouped


def measure(
    answers: Answers,
    metrics: Sequence[Metric],
    *,
    resamples: int,
    seed: int,
    slice: str | None = None,
) -> Measurement:
    """Score every system by every metric and resample all of them together."""
    first = next(iter(answers.values()))
    groups = group_numbers(first)
    carried = {metric.name: metric.carried(list(answers.values())) for metric in metrics}
    scored = [
        (name, metric, metric.score_some(items, carried[metric.name]))
        for name, items in answers.items()
        for metric in metrics
    ]
    replicates = bootstrap(
        [scores.estimator for _, _, scores in scored],
        len(first),
        resamples=resamples,
        seed=seed,
        groups=groups,
    )
    table: dict[str, dict[str, Measured]] = {name: {} for name in answers}
    for (name, metric, scores), one in zip(scored, replicates, strict=True):
        table[name][metric.name] = Measured(metric, scores, one)
    units = {name: _units(which, groups) for name, which in carried.items()}
    return Measurement(table, len(first), units, groups is not None, slice)


def _units(carried: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> int:
    """How many of the items, or of their groups, carry what a metric reads."""
    return int(carried.sum()) if groups is None else len(np.unique(groups[carried]))


def group_numbers(predictions: Sequence[Prediction]) -> NDArray[np.int64] | None:
    """A number per item, equal within a group; an item without a group is one of its own.

    None where no item names a group.
    """
    if all(one.group is None for one in predictions):
        return None
    keys = [(True, one.group) if one.group is not None else (False, one.id) for one in predictions]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def histogram(values: Floats) -> list[Bin]:
    """Item differences in an odd number of bars centred on zero: ties have a bar of their own."""
    present = values[np.isfinite(values)]
    reach = float(np.abs(present).max(initial=0.0)) or 1.0
    counts, edges = np.histogram(present, bins=_BINS, range=(-reach, reach))
    return [
        Bin(low=float(low), high=float(high), count=int(count))
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def _rate_difference(before: Floats, after: Floats, level: float) -> Difference:
    gained, lost = int((after > before).sum()), int((after < before).sum())
    items = int((~np.isnan(before)).sum())
    low, high = paired_proportion_limits(gained, lost, items, two_sided_critical_value(1 - level))
    return Difference(
        (gained - lost) / items,
        Interval(low=low, high=high, level=level, method="Agresti-Min"),
        mcnemar_p_value(gained, lost),
    )


def _item_differences(before: Floats | None, after: Floats | None) -> Floats | None:
    return None if before is None or after is None else after - before
