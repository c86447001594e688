"""What was published, reduced to one value a period: `Sum`, `Average`, … and percentiles."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from local.cloud.adapter_types import MetricSample as Sample
from local.cloud.cloudwatch.errors import ValidationError
from local.cloud.cloudwatch.series import Window

_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100)")
_BASIC = ("SampleCount", "Sum", "Average", "Minimum", "Maximum")


def check_statistic(name: str) -> None:
    """Raises ValidationError for a statistic that cannot be computed here."""
    if name not in _BASIC and not _PERCENTILE.fullmatch(name):
        raise ValidationError(f"The value {name} for parameter Stat is not supported.")


def by_period(samples: Iterable[Sample], statistic: str, period: int, window: Window) -> dict[int, float]:
    """The statistic of each period of the window that has samples."""
    check_statistic(statistic)
    first = window.moments(period).start
    periods: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        start = window.period_of(sample.moment, period)
        if first <= start < window.end and sample.moment < window.end and sample.count > 0:
            periods[start].append(sample)
    values = {start: _statistic(statistic, found) for start, found in periods.items()}
    return {start: value for start, value in sorted(values.items()) if value is not None}


def _statistic(name: str, samples: Sequence[Sample]) -> float | None:
    count, total = sum(s.count for s in samples), sum(s.total for s in samples)
    match name:
        case "SampleCount":
            return count
        case "Sum":
            return total
        case "Average":
            return total / count
        case "Minimum":
            return min(s.low for s in samples)
        case "Maximum":
            return max(s.high for s in samples)
        case _:
            return _percentile(float(name[1:]), samples)


def _percentile(percent: float, samples: Sequence[Sample]) -> float | None:
    """Linear interpolation between the nearest ranks. There is none over negative values, nor over statistic
    sets, whose single values are not known."""
    if any(s.low < 0 or not math.isclose(s.low, s.high) for s in samples):
        return None
    ordered = sorted((s.low, s.count) for s in samples)
    rank = percent / 100 * (sum(count for _, count in ordered) - 1)
    below = _at_rank(ordered, math.floor(rank))
    above = _at_rank(ordered, math.ceil(rank))
    return below + (rank - math.floor(rank)) * (above - below)


def _at_rank(ordered: Sequence[tuple[float, float]], rank: int) -> float:
    seen = 0.0
    for value, count in ordered:
        seen += count
        if rank < seen:
            return value
    return ordered[-1][0]
