"""What state an alarm is in, from its data points. Knows no store and no clock.

Rules and tables: CloudWatch user guide, "Evaluating an alarm" and "How alarm state is evaluated when data is
missing".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from local.cloud.cloudwatch import expression
from local.cloud.cloudwatch.errors import ValidationError
from local.cloud.cloudwatch.metric_data import check

State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]
# CloudWatch looks at more periods than it needs, so that a late data point does not look like a missing one.
EXTRA_PERIODS = 2
MAX_METRICS = 10
# As often as CloudWatch judges its quickest alarms: those of one minute are judged on sliding minutes.
EVERY_SECONDS = 10
LATE_SECONDS = 2.0  # what a period's last values may take to arrive
_CATCH_UP_SECONDS = 60

_COMPARISONS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "GreaterThanOrEqualToThreshold": ("greater than or equal to", lambda value, limit: value >= limit),
    "GreaterThanThreshold": ("greater than", lambda value, limit: value > limit),
    "LessThanThreshold": ("less than", lambda value, limit: value < limit),
    "LessThanOrEqualToThreshold": ("less than or equal to", lambda value, limit: value <= limit),
}


@dataclass(frozen=True)
class AlarmRule:
    """How an alarm judges its data points."""

    comparison: str
    threshold: float
    periods: int
    to_alarm: int
    missing: str = "missing"

    @classmethod
    def of(cls, alarm: Mapping[str, Any]) -> AlarmRule:
        """From an alarm as PutMetricAlarm takes it. Raises ValidationError for a comparison unknown here."""
        comparison = alarm["ComparisonOperator"]
        if comparison not in _COMPARISONS:
            raise ValidationError(f"The ComparisonOperator {comparison} is not supported.")
        periods = int(alarm["EvaluationPeriods"])
        return cls(
            comparison=comparison,
            threshold=float(alarm["Threshold"]),
            periods=periods,
            to_alarm=int(alarm.get("DatapointsToAlarm") or periods),
            missing=alarm.get("TreatMissingData") or "missing",
        )

    def breaches(self, value: float) -> bool:
        """Whether one value is on the wrong side."""
        return bool(_COMPARISONS[self.comparison][1](value, self.threshold))


def evaluation_times(last: int, now: float) -> range:
    """The moments at which alarms are to be judged, after `last`. Those missed while the machine paused are
    made up for, so that a short fault is not overlooked."""
    first = max(last, int(now) - _CATCH_UP_SECONDS) // EVERY_SECONDS + 1
    return range(first * EVERY_SECONDS, int(now - LATE_SECONDS) + 1, EVERY_SECONDS)


def evaluate_state(points: Sequence[float | None], rule: AlarmRule, current: State) -> State:
    """The state that data points put an alarm in: one for each period looked at, oldest first, None where
    there is none."""
    existing = [(age, value) for age, value in enumerate(reversed(points), 1) if value is not None]
    used = existing[: rule.periods]
    bad = [age for age, value in used if rule.breaches(value)]
    absent = rule.periods - len(used)
    if not absent or rule.missing in ("notBreaching", "breaching"):
        counted = len(bad) + (absent if rule.missing == "breaching" else 0)
        return "ALARM" if counted >= rule.to_alarm else "OK"
    if len(bad) >= rule.to_alarm:
        return "ALARM"
    if len(used) > len(bad):
        return "OK"
    if rule.missing == "ignore":
        return current
    # All there is is bad, and the oldest of it is old enough: what follows is missing, not well.
    return "ALARM" if bad and max(bad) >= rule.to_alarm else "INSUFFICIENT_DATA"


def reason(points: Sequence[float | None], rule: AlarmRule, state: State) -> str:
    """The sentence that CloudWatch gives with a new state."""
    used = [value for value in reversed(points) if value is not None][: rule.periods]
    if not used:
        if rule.missing == "missing":
            return f"Insufficient Data: {rule.periods} datapoints were unknown."
        periods = f"{rule.periods} periods and missing data was treated as [{rule.missing}]"
        return f"Threshold Crossed: no datapoints were received for {periods}."
    bad = [value for value in used if rule.breaches(value)]
    shown = bad if state == "ALARM" else [value for value in used if not rule.breaches(value)] or used
    negation = "" if state == "ALARM" else "not "
    return (
        f"Threshold Crossed: {len(shown)} out of the last {len(used)} datapoints {list(shown)} "
        f"{'was' if len(shown) == 1 else 'were'} {negation}{_COMPARISONS[rule.comparison][0]} "
        f"the threshold ({rule.threshold})."
    )


def queries_of(alarm: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], int]:
    """An alarm's MetricDataQueries and its period in seconds. Raises ValidationError."""
    if not alarm.get("Metrics"):
        return [_simple_query(alarm)], int(alarm["Period"])
    queries = list(alarm["Metrics"])
    check(queries)
    if len([query for query in queries if query.get("ReturnData", True)]) != 1:
        raise ValidationError("Exactly one element of the metrics list should return data.")
    if len([query for query in queries if "MetricStat" in query]) > MAX_METRICS:
        raise ValidationError(f"An alarm has at most {MAX_METRICS} metrics.")
    if any(
        "SEARCH" in expression.calls(expression.parse(q["Expression"])) for q in queries if "Expression" in q
    ):
        raise ValidationError("SEARCH is not supported on Metric Alarms.")
    periods = {query["MetricStat"]["Period"] for query in queries if "MetricStat" in query}
    if len(periods) != 1:
        raise ValidationError("Metrics list must contain metrics, all of the same period.")
    return queries, int(periods.pop())


def _simple_query(alarm: Mapping[str, Any]) -> dict[str, Any]:
    statistic = {
        "Metric": {key: alarm.get(key) for key in ("Namespace", "MetricName", "Dimensions")},
        "Stat": alarm.get("ExtendedStatistic") or alarm["Statistic"],
        "Period": int(alarm["Period"]),
    }
    return {"Id": "m1", "MetricStat": statistic | ({"Unit": alarm["Unit"]} if alarm.get("Unit") else {})}
