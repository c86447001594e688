"""Capacities, steps and schedules as arithmetic."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from local.autoscaling.policies import step_capacity, tracking_capacity
from local.autoscaling.schedules import parse


@pytest.mark.parametrize(
    ("current", "metric", "target", "wanted"),
    [(1, 18, 5, 4), (4, 4.5, 5, 4), (3, 10, 10, 3), (2, 0, 5, 0), (3, 0.1 + 0.2, 0.3, 3), (10, 5.5, 5, 11)],
)
def test_a_target_is_met_by_the_least_capacity_that_does(
    current: int, metric: float, target: float, wanted: int
) -> None:
    assert tracking_capacity(current, metric, target) == wanted


def policy(kind: str, *steps: tuple[float | None, float | None, int], **more: Any) -> dict[str, Any]:
    names = ("MetricIntervalLowerBound", "MetricIntervalUpperBound", "ScalingAdjustment")
    found = [{n: v for n, v in zip(names, each, strict=True) if v is not None} for each in steps]
    return {"AdjustmentType": kind, "StepAdjustments": found} | more


@pytest.mark.parametrize(
    ("current", "metric", "configuration", "wanted"),
    [
        (2, 60, policy("ChangeInCapacity", (0, 10, 1), (10, None, 2)), 4),
        (2, 55, policy("ChangeInCapacity", (0, 10, 1), (10, None, 2)), 3),
        (2, 50, policy("ChangeInCapacity", (0, 10, 1), (10, None, 2)), 3),
        (2, 40, policy("ChangeInCapacity", (-10, 0, -1), (None, -10, -2)), 0),
        (4, 41, policy("ChangeInCapacity", (-10, 0, -1), (None, -10, -2)), 3),
        (2, 60, policy("ExactCapacity", (0, None, 7)), 7),
        (10, 60, policy("PercentChangeInCapacity", (0, None, 12)), 11),
        (2, 60, policy("PercentChangeInCapacity", (0, None, 10)), 3),
        (10, 40, policy("PercentChangeInCapacity", (None, 0, -12)), 9),
        (10, 60, policy("PercentChangeInCapacity", (0, None, 5), MinAdjustmentMagnitude=2), 12),
        (2, 40, policy("ChangeInCapacity", (0, None, 1)), None),
    ],
)
def test_steps(current: int, metric: float, configuration: dict[str, Any], wanted: int | None) -> None:
    assert step_capacity(current, metric, 50.0, configuration) == wanted


def moment(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("expression", "zone", "after", "until", "due"),
    [
        ("at(2026-03-02T08:00:00)", "UTC", "2026-03-02T07:59", "2026-03-02T08:00", True),
        ("at(2026-03-02T08:00:00)", "UTC", "2026-03-02T08:00", "2026-03-02T08:01", False),
        ("at(2026-03-02T08:00:00)", "Europe/Berlin", "2026-03-02T06:59", "2026-03-02T07:00", True),
        ("cron(0 8 ? * MON-FRI *)", "UTC", "2026-03-02T07:59", "2026-03-02T08:00", True),
        ("cron(0 8 ? * MON-FRI *)", "UTC", "2026-03-01T07:59", "2026-03-01T08:00", False),
        ("cron(0/15 * * * ? *)", "UTC", "2026-03-02T07:44:30", "2026-03-02T07:45:30", True),
        ("cron(0/15 * * * ? *)", "UTC", "2026-03-02T07:45:30", "2026-03-02T07:59:30", False),
        ("cron(30 2,14 1 JAN,MAR ? 2026)", "UTC", "2026-03-01T14:29", "2026-03-01T14:30", True),
        ("cron(30 2,14 1 JAN,MAR ? 2027)", "UTC", "2026-03-01T14:29", "2026-03-01T14:30", False),
        ("rate(5 minutes)", "UTC", "2026-03-02T00:04", "2026-03-02T00:05", True),
        ("rate(5 minutes)", "UTC", "2026-03-02T00:05", "2026-03-02T00:09", False),
    ],
)
def test_schedules(expression: str, zone: str, after: str, until: str, due: bool) -> None:
    plan = parse(expression, zone, created=moment("2026-03-02T00:00"))
    assert plan.due(moment(after), moment(until)) is due
