"""Log lines on their way to CloudWatch, and the metrics embedded in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.cloud.lambda_service.logs import LINE_LIMIT, FunctionLog, embedded_metrics, report


def emf(**document: Any) -> str:
    """An EMF line with one metric, as aws-lambda-powertools writes it."""
    directive = {
        "Namespace": "Evergreen",
        "Dimensions": [["endpoint"], ["endpoint", "variant"]],
        "Metrics": [{"Name": "tokens", "Unit": "Count"}],
    }
    head = {"Timestamp": 1_700_000_000_000, "CloudWatchMetrics": [directive]}
    return json.dumps({"_aws": head, "endpoint": "e", **document})


def test_each_dimension_set_gives_a_metric() -> None:
    ((namespace, data),) = embedded_metrics(emf(variant="champion", tokens=7))

    assert namespace == "Evergreen"
    assert [datum["Value"] for datum in data] == [7, 7]
    assert [len(datum["Dimensions"]) for datum in data] == [1, 2]
    assert data[0]["Timestamp"] == 1_700_000_000


def test_several_values_stay_together() -> None:
    ((_namespace, data),) = embedded_metrics(emf(variant="champion", tokens=[1, 2]))

    assert data[0]["Values"] == [1, 2]


def test_a_set_with_a_missing_dimension_is_dropped() -> None:
    ((_namespace, data),) = embedded_metrics(emf(tokens=7))

    assert [len(datum["Dimensions"]) for datum in data] == [1]


@pytest.mark.parametrize(
    "line",
    [
        "plain text",
        '{"message": "no metrics"}',
        '{"_aws": {}}',
        '{"_aws": broken',
        '{"_aws": {"Timestamp": 1}}',
    ],
)
def test_other_lines_hold_no_metrics(line: str) -> None:
    assert embedded_metrics(line) == []


class Sent:
    """Records what a log hands over."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.metrics: list[str] = []

    def log(self) -> FunctionLog:
        return FunctionLog("g", "s", self._logs, lambda namespace, _data: self.metrics.append(namespace))

    def _logs(self, _group: str, _stream: str, events: Any) -> None:
        self.lines += [message for _moment, message in events]


def test_lines_are_handed_over_once_and_in_order() -> None:
    sent = Sent()
    log = sent.log()

    log.start("id", "$LATEST")
    log.write("hello")
    assert sent.lines == []
    log.flush()
    log.flush()

    assert sent.lines == ["START RequestId: id Version: $LATEST", "hello"]


def test_an_emf_line_is_logged_and_counted() -> None:
    sent = Sent()
    log = sent.log()

    log.write(emf(variant="v", tokens=1))
    log.flush()

    assert sent.metrics == ["Evergreen"]
    assert len(sent.lines) == 1


def test_the_tail_begins_with_the_invocation_and_is_bounded() -> None:
    log = Sent().log()
    log.write("before")
    log.start("id", "1")
    log.write("x" * (LINE_LIMIT + 1))

    assert b"before" not in log.tail()
    assert len(log.tail()) == 4096


def test_a_long_line_is_cut() -> None:
    sent = Sent()
    log = sent.log()
    log.write("x" * (LINE_LIMIT + 1))
    log.flush()

    assert len(sent.lines[0]) == LINE_LIMIT


def test_the_report_rounds_the_bill_up() -> None:
    line = report("id", duration_ms=1.2, memory_mb=128, used_mb=40, init_ms=None)

    assert "Duration: 1.20 ms\tBilled Duration: 2 ms" in line
    assert "Init" not in line
