"""How much of the past the emulator keeps, by counts."""

from __future__ import annotations

import random
from typing import Any

from local.cloud.retention import (
    FULL_RESOLUTION_SECONDS,
    MAX_EVENTS_PER_LOG_GROUP,
    MAX_EXECUTIONS_PER_STATE_MACHINE,
    MAX_SAMPLES_PER_METRIC,
    MAX_VALUES_PER_MINUTE,
    retained_samples,
    surplus_events,
    surplus_executions,
)

NOW = 1_800_000_000.0  # the start of a minute
OLD = NOW - FULL_RESOLUTION_SECONDS - 600


def sample(moment: float, value: float, **more: Any) -> dict[str, Any]:
    return {"Timestamp": moment, "Unit": "Count", "Dimensions": {"a": "b"}, "Value": value, **more}


def totals(samples: list[dict[str, Any]]) -> tuple[float, float, float, float]:
    counts = [(one["Value"], one.get("Count", 1.0)) for one in samples]
    return (
        sum(count for _, count in counts),
        round(sum(value * count for value, count in counts), 6),
        min(value for value, _ in counts),
        max(value for value, _ in counts),
    )


def test_recent_samples_stay_as_they_were_published() -> None:
    samples = [sample(NOW - second, 1.0) for second in range(1, 100)]

    assert retained_samples(samples, NOW) == sorted(samples, key=lambda one: one["Timestamp"])


def test_equal_values_of_an_old_minute_become_one_sample_with_their_count() -> None:
    samples = [sample(OLD + second + 0.5, float(second % 2)) for second in range(120)]

    kept = retained_samples(samples, NOW)

    assert [(one["Timestamp"], one["Value"], one["Count"]) for one in kept] == [
        (OLD, 0.0, 30.0),
        (OLD, 1.0, 30.0),
        (OLD + 60, 0.0, 30.0),
        (OLD + 60, 1.0, 30.0),
    ]


def test_a_minute_of_many_values_is_thinned_and_keeps_its_count_sum_and_extremes() -> None:
    values = random.Random(1)
    samples = [sample(OLD + values.uniform(0.1, 59.9), values.expovariate(1)) for _ in range(1000)]

    kept = retained_samples(samples, NOW)

    assert len(kept) == MAX_VALUES_PER_MINUTE
    assert totals(kept) == totals(samples)


def test_units_and_statistic_sets_are_merged_apart() -> None:
    statistics = {"SampleCount": 2, "Sum": 6, "Minimum": 1, "Maximum": 5}
    samples = [
        sample(OLD + 1, 3.0, _stat=statistics),
        sample(OLD + 2, 4.0, _stat=statistics | {"Maximum": 9}),
        sample(OLD + 3, 1.0),
        sample(OLD + 4, 1.0) | {"Unit": "Seconds"},
    ]

    kept = retained_samples(samples, NOW)

    merged = {"SampleCount": 4, "Sum": 12, "Minimum": 1, "Maximum": 9}
    assert [one.get("_stat") for one in kept] == [None, merged, None]
    assert [one["Unit"] for one in kept] == ["Count", "Count", "Seconds"]


def test_merging_again_changes_nothing_and_takes_late_samples_in() -> None:
    once = retained_samples([sample(OLD + second, 2.0) for second in range(1, 31)], NOW)
    twice = retained_samples(once, NOW + 60)
    late = retained_samples([*twice, sample(OLD + 45, 2.0)], NOW + 120)

    assert once == twice
    assert [one["Count"] for one in late] == [31.0]


def test_a_metric_has_a_most_of_samples_the_newest() -> None:
    samples = [sample(NOW - 1 + index / 1e6, float(index)) for index in range(MAX_SAMPLES_PER_METRIC + 5)]

    kept = retained_samples(samples, NOW)

    assert len(kept) == MAX_SAMPLES_PER_METRIC
    assert kept[0]["Value"] == 5.0


def test_a_log_group_has_a_most_of_events_the_newest_of_all_streams() -> None:
    half = MAX_EVENTS_PER_LOG_GROUP // 2
    old = [{"timestamp": moment} for moment in range(half)]
    new = [{"timestamp": half + moment} for moment in range(half)]

    assert surplus_events({"old": old, "new": new}) == {}
    assert surplus_events({"old": old, "new": [*new, *new[-7:]]}) == {"old": 7}


def test_a_state_machine_has_a_most_of_finished_executions_the_newest() -> None:
    def execution(machine: str, number: int, **more: Any) -> dict[str, Any]:
        stopped = f"2026-11-30T00:{number // 60:02}:{number % 60:02}Z"
        return {
            "executionArn": f"{machine}:{number}",
            "stateMachineArn": machine,
            "stopDate": stopped,
            **more,
        }

    many = [execution("busy", number) for number in range(MAX_EXECUTIONS_PER_STATE_MACHINE + 2)]
    others = [execution("quiet", 0), execution("busy", 3000, executionArn="running", stopDate=None)]

    assert surplus_executions([*others, *reversed(many)]) == ["busy:0", "busy:1"]
