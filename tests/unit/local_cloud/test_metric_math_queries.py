"""GetMetricData's queries over published samples, and alarms judged by their data points."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.cloud.adapter_types import MetricSample
from local.cloud.cloudwatch.alarm_state import AlarmRule, evaluate_state, evaluation_times, queries_of, reason
from local.cloud.cloudwatch.errors import ValidationError
from local.cloud.cloudwatch.metric_data import answer, results_of
from local.cloud.cloudwatch.search import MetricName, matching
from local.cloud.cloudwatch.series import Window
from local.cloud.cloudwatch.statistics import by_period

WINDOW = Window(0, 30)
PERIOD = 10


def sample(moment: float, value: float, count: float = 1.0, unit: str = "Count") -> MetricSample:
    return MetricSample(moment, unit, count, value * count, value, value)


class Store:
    """Samples by metric name and value of the dimension `variant`."""

    def __init__(self, published: dict[tuple[str, str], list[MetricSample]]) -> None:
        self._published = [
            (MetricName("Own", name, {"endpoint": "e", "variant": variant}), samples)
            for (name, variant), samples in published.items()
        ]

    def samples(self, metric: MetricName, since: float) -> Iterable[MetricSample]:
        found = next((s for name, s in self._published if name == metric), [])
        return [one for one in found if one.moment >= since]

    def metrics(self) -> Iterable[MetricName]:
        return [name for name, _samples in self._published]


STORE = Store(
    {
        ("requests", "a"): [sample(1, 4), sample(2, 6), sample(11, 5), sample(29, 8), sample(30, 99)],
        ("requests", "b"): [sample(12, 1)],
        ("errors", "a"): [sample(2, 1), sample(12, 0)],
    }
)


def metric(id: str, name: str, stat: str = "Sum", variant: str = "a", **more: Any) -> dict[str, Any]:
    dimensions = [{"Name": "variant", "Value": variant}, {"Name": "endpoint", "Value": "e"}]
    named = {"Namespace": "Own", "MetricName": name, "Dimensions": dimensions}
    return {"Id": id, "MetricStat": {"Metric": named, "Stat": stat, "Period": PERIOD}} | more


def lines(*queries: dict[str, Any]) -> list[tuple[str, str, dict[int, float]]]:
    found = answer(queries, WINDOW, STORE)
    return [(line.id, line.series.label, dict(line.series.values)) for line in found]


def test_an_expression_over_hidden_metrics() -> None:
    assert lines(
        {"Id": "ratio", "Expression": "errors / requests", "Label": "share", "Period": PERIOD},
        metric("errors", "errors", ReturnData=False),
        metric("requests", "requests", ReturnData=False),
    ) == [("ratio", "share", {0: 0.1, 10: 0.0, 20: 0.0})]


def test_expressions_may_build_on_each_other_in_any_order() -> None:
    assert lines(
        {"Id": "e2", "Expression": "e1 * 2"},
        {"Id": "e1", "Expression": "m1 + 1", "ReturnData": False},
        metric("m1", "errors", ReturnData=False),
    ) == [("e2", "e2", {0: 4.0, 10: 2.0})]


def test_a_search_gives_a_line_for_each_metric_named_by_what_differs() -> None:
    search = "SEARCH('{Own,endpoint,variant} MetricName=\"requests\" endpoint=\"e\"', 'Sum', 10)"
    assert lines({"Id": "s", "Expression": search, "Label": ""}) == [
        ("s", "a", {0: 10.0, 10: 5.0, 20: 8.0}),
        ("s", "b", {10: 1.0}),
    ]


def test_a_unit_that_was_not_published_has_no_points() -> None:
    query = metric("m1", "requests")
    query["MetricStat"]["Unit"] = "Seconds"
    assert lines(query) == [("m1", "requests", {})]


def test_replies_are_newest_first_unless_asked_otherwise() -> None:
    found = answer([metric("m1", "requests")], WINDOW, STORE)
    assert results_of({}, found)[0]["Timestamps"] == [20, 10, 0]
    assert results_of({"ScanBy": "TimestampAscending"}, found)[0]["Values"] == [10.0, 5.0, 8.0]


@pytest.mark.parametrize(
    "queries",
    [
        [],
        [metric("M1", "requests")],
        [metric("m1", "requests"), metric("m1", "errors")],
        [metric("m1", "requests", stat="p101")],
        [metric("m1", "requests", stat="tm90")],
        [{"Id": "e1", "Expression": "m2 + 1"}],
        [{"Id": "e1", "Expression": "e2"}, {"Id": "e2", "Expression": "e1"}],
        [{"Id": "e1", "Expression": "1 + 1"}],
        [{"Id": "e1", "Expression": "m1 +"}, metric("m1", "requests")],
        [{"Id": "e1"}],
        [{"Id": "e1", "Expression": "SEARCH('partial', 'Sum', 60)"}],
        [{"Id": "e1", "Expression": "SEARCH('{Own}', 'Sum', 7)"}],
    ],
)
def test_wrong_queries_are_refused(queries: list) -> None:
    with pytest.raises(ValidationError):
        answer(queries, WINDOW, STORE)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40), st.integers(0, 100))
def test_percentiles_interpolate_between_ranks_and_counts_weigh(values: list[int], percent: int) -> None:
    ordered = sorted(values)
    rank = percent / 100 * (len(ordered) - 1)
    low = ordered[int(rank)]
    expected = low + (rank - int(rank)) * (ordered[min(int(rank) + 1, len(ordered) - 1)] - low)
    one_by_one = [sample(0, value) for value in values]
    counted = [sample(0, value, count=float(values.count(value))) for value in set(values)]
    for samples in (one_by_one, counted):
        found = by_period(samples, f"p{percent}", PERIOD, WINDOW)
        assert found == pytest.approx({0: expected})


def test_basic_statistics() -> None:
    samples = [sample(0, 2, count=3), MetricSample(1, "Count", 2, 14, 5, 9)]
    values = {name: by_period(samples, name, PERIOD, WINDOW)[0]
              for name in ("SampleCount", "Sum", "Average", "Minimum", "Maximum")}  # fmt: skip
    assert values == {"SampleCount": 5, "Sum": 20, "Average": 4, "Minimum": 2, "Maximum": 9}
    assert by_period(samples, "p50", PERIOD, WINDOW) == {}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('{Own,x} MetricName="n1"', ["n1"]),
        ('{Own, x}, "one"', ["n1", "n2"]),
        ('{Own,x} x="one" NOT MetricName="n1"', ["n2"]),
        ('MetricName="n1" OR (MetricName="n2" AND x="two")', ["n1", "n2"]),
        ('Namespace="Other"', []),
        ("{Own}", ["n1", "n2", "n2"]),
        ("{Own,x,y}", []),
    ],
)
def test_searches(query: str, expected: list[str]) -> None:
    metrics = [MetricName("Own", name, {"x": x}) for name, x in (("n1", "one"), ("n2", "one"), ("n2", "two"))]
    assert [metric.name for metric in matching(query, metrics)] == expected


W, X, _ = 0.0, 9.0, None  # well, not well, missing


@pytest.mark.parametrize(
    ("points", "to_alarm", "missing", "ignore", "breaching", "not_breaching"),
    [
        ([W, _, X, _, X], 3, "OK", "OK", "OK", "OK"),
        ([W, _, _, _, _], 3, "OK", "OK", "OK", "OK"),
        ([_, _, _, _, _], 3, "INSUFFICIENT_DATA", "kept", "ALARM", "OK"),
        ([W, X, X, _, X], 3, "ALARM", "ALARM", "ALARM", "ALARM"),
        ([_, _, _, _, X], 3, "INSUFFICIENT_DATA", "kept", "ALARM", "OK"),
        ([X, _, _, _, _], 3, "ALARM", "kept", "ALARM", "OK"),
        ([W, _, X, _, X], 2, "ALARM", "ALARM", "ALARM", "ALARM"),
        ([W, W, X, W, X], 2, "ALARM", "ALARM", "ALARM", "ALARM"),
        ([W, _, X, _, _], 2, "OK", "OK", "ALARM", "OK"),
        ([_, _, _, _, W], 2, "OK", "OK", "ALARM", "OK"),
        ([_, _, _, _, X], 2, "INSUFFICIENT_DATA", "kept", "ALARM", "OK"),
    ],
)
def test_missing_data_as_the_user_guide_treats_it(
    points: list, to_alarm: int, missing: str, ignore: str, breaching: str, not_breaching: str
) -> None:
    expected = {"missing": missing, "ignore": ignore, "breaching": breaching, "notBreaching": not_breaching}
    for treatment, state in expected.items():
        rule = AlarmRule("GreaterThanThreshold", 1.0, 3, to_alarm, treatment)
        assert evaluate_state(points, rule, "kept") == state  # type: ignore[arg-type]


def test_alarms_are_judged_at_round_moments_and_missed_ones_are_made_up_for() -> None:
    assert list(evaluation_times(1000, 1011.9)) == []
    assert list(evaluation_times(1000, 1012.0)) == [1010]
    assert list(evaluation_times(1010, 1035.0)) == [1020, 1030]
    assert list(evaluation_times(0, 1003.0)) == [950, 960, 970, 980, 990, 1000]


def test_the_reason_tells_the_values_and_the_threshold() -> None:
    rule = AlarmRule("GreaterThanThreshold", 1.0, 3, 2)
    assert reason([W, X, X], rule, "ALARM") == (
        "Threshold Crossed: 2 out of the last 3 datapoints [9.0, 9.0] were greater than the threshold (1.0)."
    )


def alarm(**more: Any) -> dict[str, Any]:
    return {"AlarmName": "a", "ComparisonOperator": "GreaterThanThreshold", "Threshold": 1,
            "EvaluationPeriods": 3} | more  # fmt: skip


def test_an_alarm_on_one_percentile() -> None:
    queries, period = queries_of(
        alarm(Namespace="Own", MetricName="ttft", ExtendedStatistic="p95", Period=30, Dimensions=[])
    )
    assert (queries[0]["MetricStat"]["Stat"], period) == ("p95", 30)


def test_an_alarm_on_metric_math_returns_one_line_of_one_period() -> None:
    ratio = {"Id": "e1", "Expression": "m1 / 2"}
    hidden = metric("m1", "requests", ReturnData=False)
    assert queries_of(alarm(Metrics=[ratio, hidden]))[1] == PERIOD
    search = {"Id": "e1", "Expression": "FIRST(SEARCH('{Own}', 'Sum', 60)) + m1"}
    other_period = metric("m2", "errors", ReturnData=False)
    other_period["MetricStat"]["Period"] = 60
    for metrics in ([ratio, metric("m1", "requests")], [search, hidden], [ratio, hidden, other_period]):
        with pytest.raises(ValidationError):
            queries_of(alarm(Metrics=metrics))


def test_an_unknown_comparison_is_refused() -> None:
    with pytest.raises(ValidationError):
        AlarmRule.of(alarm(ComparisonOperator="LessThanLowerThreshold"))
