"""How much of the past the emulator keeps: AWS's kinds of retention with a laptop's numbers.

Pure: it works on samples, log events and executions in the emulator's shapes and holds none of them.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

FULL_RESOLUTION_SECONDS = 300.0
"""Younger samples are kept as published, older ones at CloudWatch's standard resolution of a minute.
CloudWatch itself keeps full resolution for three hours."""
MAX_VALUES_PER_MINUTE = 12
"""The lowest, the highest and the means of ten groups: old minutes keep approximate percentiles."""
MAX_SAMPLES_PER_METRIC = 10_000
MAX_UNSWEPT_SAMPLES = 5_000
"""Of all metrics; then old samples are merged early. Light use publishes fewer in two minutes."""
MAX_EVENTS_PER_LOG_GROUP = 3_000
MAX_EXECUTIONS_PER_STATE_MACHINE = 200
MAX_ALARM_HISTORY_ITEMS = 1_000
_MINUTE = 60

Sample = dict[str, Any]


def retained_samples(samples: Sequence[Sample], now: float) -> list[Sample]:
    """A metric's samples with old ones merged by minute, unit and value, without the oldest beyond the limit.

    Count, sum, minimum and maximum of every whole minute stay what they were; so do percentiles, while a
    minute has at most `MAX_VALUES_PER_MINUTE` different values.
    """
    before = now - FULL_RESOLUTION_SECONDS
    new_minutes = {_minute(sample) for sample in samples if _is_unmerged(sample, before)}
    kept: list[Sample] = []
    merged: defaultdict[tuple[float, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample["Timestamp"] < before and _minute(sample) in new_minutes:
            merged[_minute(sample), sample["Unit"]].append(sample)
        else:
            kept.append(sample)
    for (minute, unit), group in merged.items():
        base = {"Timestamp": minute, "Unit": unit, "Dimensions": group[0]["Dimensions"]}
        kept += _merged_values(group, base) + _merged_statistics(group, base)
    kept.sort(key=lambda sample: float(sample["Timestamp"]))
    return kept[-MAX_SAMPLES_PER_METRIC:]


def _minute(sample: Sample) -> float:
    return float(sample["Timestamp"] // _MINUTE * _MINUTE)


def _is_unmerged(sample: Sample, before: float) -> bool:
    return bool(sample["Timestamp"] < before and sample["Timestamp"] % _MINUTE)


def _merged_values(samples: Iterable[Sample], base: Sample) -> list[Sample]:
    counts: Counter[float] = Counter()
    for sample in samples:
        if "_stat" not in sample:
            counts[sample["Value"]] += sample.get("Count", 1.0)
    return [base | {"Value": value, "Count": count} for value, count in _thinned(sorted(counts.items()))]


def _thinned(values: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MAX_VALUES_PER_MINUTE` values: neighbours become their mean, the lowest and highest stay."""
    inner, groups = values[1:-1], MAX_VALUES_PER_MINUTE - 2
    if len(inner) <= groups:
        return values
    bounds = [index * len(inner) // groups for index in range(groups + 1)]
    means = []
    for start, end in pairwise(bounds):
        count = sum(count for _value, count in inner[start:end])
        means.append((sum(value * count for value, count in inner[start:end]) / count, count))
    return [values[0], *means, values[-1]]


def _merged_statistics(samples: Iterable[Sample], base: Sample) -> list[Sample]:
    sets = [sample["_stat"] for sample in samples if "_stat" in sample]
    if not sets:
        return []
    count, total = (sum(float(one.get(name, 0)) for one in sets) for name in ("SampleCount", "Sum"))
    statistics = {
        "SampleCount": count,
        "Sum": total,
        "Minimum": min(float(one.get("Minimum", 0)) for one in sets),
        "Maximum": max(float(one.get("Maximum", 0)) for one in sets),
    }
    return [base | {"Value": total / count if count else 0.0, "_stat": statistics}]


def surplus_events(streams: Mapping[str, Sequence[Mapping[str, Any]]]) -> Counter[str]:
    """How many of the oldest events of each stream a log group has too many. Streams are in time's order."""
    surplus = sum(len(events) for events in streams.values()) - MAX_EVENTS_PER_LOG_GROUP
    if surplus <= 0:
        return Counter()
    moments = ((event["timestamp"], name) for name, events in streams.items() for event in events)
    return Counter(name for _moment, name in heapq.nsmallest(surplus, moments))


def surplus_executions(executions: Iterable[Mapping[str, Any]]) -> list[str]:
    """The ARNs of the finished executions beyond the limit of their state machine, oldest first."""
    finished: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for execution in executions:
        if execution.get("stopDate"):
            finished[execution["stateMachineArn"]].append((execution["stopDate"], execution["executionArn"]))
    return [
        arn
        for machine in finished.values()
        for _stopped, arn in sorted(machine)[:-MAX_EXECUTIONS_PER_STATE_MACHINE]
    ]
