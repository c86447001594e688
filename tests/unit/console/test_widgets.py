"""Dashboard bodies become GetMetricData queries exactly as CloudWatch reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from local.console.widgets import chart, queries


def test_dots_and_ellipsis_repeat_the_line_before() -> None:
    lines = [
        ["AWS/SageMaker", "Invocations", "EndpointName", "e", "VariantName", "champion", {"stat": "Sum"}],
        [".", "ModelLatency", ".", ".", ".", "."],
        ["...", "challenger", {"label": "new"}],
    ]
    asked = queries({"metrics": lines, "stat": "p99"})
    assert [q["MetricStat"]["Metric"]["MetricName"] for q in asked] == [
        "Invocations",
        "ModelLatency",
        "ModelLatency",
    ]
    assert [q["MetricStat"]["Stat"] for q in asked] == ["Sum", "p99", "p99"]
    assert asked[2]["MetricStat"]["Metric"]["Dimensions"][1] == {"Name": "VariantName", "Value": "challenger"}
    assert asked[2]["Label"] == "new"


def test_expressions_keep_their_ids_and_hidden_inputs_stay_hidden() -> None:
    lines = [
        [{"expression": "100*errors/all", "label": "error rate", "id": "rate"}],
        ["Evergreen", "evergreen.errors", {"id": "errors", "visible": False}],
    ]
    rate, errors = queries({"metrics": lines})
    assert rate["Expression"] == "100*errors/all"
    assert rate["ReturnData"] is True
    assert errors["Id"] == "errors"
    assert errors["ReturnData"] is False


def test_a_line_has_the_widgets_period_or_its_own() -> None:
    lines = [
        ["N", "m", {"period": 30}],
        ["N", "m"],
        [{"expression": "SEARCH('{N}', 'Sum', 10)"}],
    ]
    own, widgets, search = queries({"metrics": lines, "period": 10})
    assert own["MetricStat"]["Period"] == 30
    assert widgets["MetricStat"]["Period"] == 10
    assert search["Period"] == 10
    assert queries({"metrics": [["N", "m"]]})[0]["MetricStat"]["Period"] == 60


def test_chart_orders_points_by_time() -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    drawn = chart(
        {"properties": {"title": "T"}, "width": 12},
        [{"Id": "m0", "Label": "a", "Timestamps": [late, early], "Values": [2.0, 1.0]}],
    )
    assert drawn["lines"][0]["points"] == [[early.timestamp(), 1.0], [late.timestamp(), 2.0]]


def test_goals_are_marked_and_bands_are_left_out() -> None:
    marks = [{"value": 2000, "label": "goal"}, [{"value": 1}, {"value": 2}], {"value": 3}]
    drawn = chart({"properties": {"annotations": {"horizontal": marks}}}, [])
    assert drawn["marks"] == [{"value": 2000, "label": "goal"}, {"value": 3, "label": ""}]
