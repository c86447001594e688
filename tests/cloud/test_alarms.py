"""GetMetricData with metric math, and alarms with their actions, over plain boto3 and CloudFormation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.emulator import OwnEmulator, allow, policy

WAIT_SECONDS = 180
ARN = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEmulator]:
    cloud = OwnEmulator(Path(tmp_path_factory.mktemp("alarms")))
    cloud.start()
    yield cloud
    cloud.stop()


def eventually(found: Callable[[], Any]) -> Any:
    """What `found` answers as soon as it is true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (answer := found()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(1)
    return answer


def metric(id: str, name: str, stat: str = "Sum", **more: Any) -> dict[str, Any]:
    named = {"Namespace": "Own", "MetricName": name, "Dimensions": [{"Name": "endpoint", "Value": "e"}]}
    return {"Id": id, "MetricStat": {"Metric": named, "Stat": stat, "Period": 10}} | more


RATIO = [
    {"Id": "ratio", "Expression": "IF(requests >= 3, FILL(errors, 0) / requests, 0)", "Label": "errors"},
    metric("requests", "requests", ReturnData=False),
    metric("errors", "errors", ReturnData=False),
]


def publish(cloudwatch: Any, name: str, *values: float, endpoint: str = "e") -> None:
    cloudwatch.put_metric_data(
        Namespace="Own",
        MetricData=[
            {"MetricName": name, "Dimensions": [{"Name": "endpoint", "Value": endpoint}], "Value": value}
            for value in values
        ],
    )


def state(cloudwatch: Any, name: str) -> str:
    found = cloudwatch.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    (alarm,) = found["MetricAlarms"] + found["CompositeAlarms"]
    return str(alarm["StateValue"])


def test_metric_math_percentiles_and_searches(emulator: OwnEmulator) -> None:
    cloudwatch = emulator.client("cloudwatch")
    now = datetime.now(UTC)
    cloudwatch.put_metric_data(
        Namespace="Read",
        MetricData=[
            {"MetricName": "latency", "Values": [1.0, 2.0, 3.0, 4.0, 5.0], "Counts": [1, 1, 1, 1, 96],
             "Timestamp": now, "Unit": "Milliseconds", "StorageResolution": 1,
             "Dimensions": [{"Name": "variant", "Value": "a"}]},
            {"MetricName": "latency", "Value": 7.0, "Timestamp": now,
             "Dimensions": [{"Name": "variant", "Value": "b"}]},
        ],
    )  # fmt: skip
    a = {"Namespace": "Read", "MetricName": "latency", "Dimensions": [{"Name": "variant", "Value": "a"}]}
    found = cloudwatch.get_metric_data(
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=1),
        MetricDataQueries=[
            {"Id": "low", "MetricStat": {"Metric": a, "Period": 10, "Stat": "p1"}, "Label": "first"},
            {
                "Id": "n",
                "MetricStat": {"Metric": a, "Period": 10, "Stat": "SampleCount"},
                "ReturnData": False,
            },
            {"Id": "sum", "MetricStat": {"Metric": a, "Period": 10, "Stat": "Sum"}, "ReturnData": False},
            {"Id": "mean", "Expression": "sum / n"},
            {"Id": "s", "Expression": "SEARCH('{Read,variant} MetricName=\"latency\"', 'Maximum', 10)"},
        ],
    )["MetricDataResults"]
    values = {(one["Id"], one["Label"]): one["Values"] for one in found}
    assert values == {
        ("low", "first"): [pytest.approx(1.99)],
        ("mean", "mean"): [4.9],
        ("s", "a"): [5.0],
        ("s", "b"): [7.0],
    }
    assert all(abs(one["Timestamps"][0] - now) < timedelta(seconds=11) for one in found)


@pytest.mark.parametrize("wrong", ["nobody + 1", "requests +", "EVAL(requests)", "1 + 1"])
def test_wrong_expressions_are_refused_by_name(emulator: OwnEmulator, wrong: str) -> None:
    now = datetime.now(UTC)
    with pytest.raises(ClientError) as refused:
        emulator.client("cloudwatch").get_metric_data(
            StartTime=now - timedelta(minutes=5),
            EndTime=now,
            MetricDataQueries=[{"Id": "e1", "Expression": wrong}, metric("requests", "requests")],
        )
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    assert "e1" in refused.value.response["Error"]["Message"]


def test_an_alarm_on_metric_math_pages_through_a_composite_and_recovers(emulator: OwnEmulator) -> None:
    cloudwatch, messages = emulator.client("cloudwatch"), _mailbox(emulator, "page")
    cloudwatch.put_metric_alarm(
        AlarmName="ratio",
        Metrics=RATIO,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=0.1,
        EvaluationPeriods=3,
        DatapointsToAlarm=2,
        TreatMissingData="notBreaching",
    )
    cloudwatch.put_composite_alarm(
        AlarmName="page",
        AlarmRule=f'(ALARM("{ARN}ratio") OR FALSE)',
        AlarmActions=[messages.topic],
        OKActions=[messages.topic],
    )
    eventually(lambda: state(cloudwatch, "ratio") == "OK")

    def keep_failing() -> bool:
        publish(cloudwatch, "requests", 5)
        publish(cloudwatch, "errors", 2)
        return state(cloudwatch, "page") == "ALARM"

    eventually(keep_failing)
    assert state(cloudwatch, "ratio") == "ALARM"
    eventually(lambda: ("page", "ALARM") in messages.read())
    eventually(lambda: state(cloudwatch, "page") == "OK")
    eventually(lambda: ("page", "OK") in messages.read())
    described = cloudwatch.describe_alarms(AlarmNames=["ratio"])["MetricAlarms"][0]
    assert described["Metrics"] == RATIO
    assert "MetricName" not in described


def test_an_alarm_on_a_percentile_of_a_template(emulator: OwnEmulator) -> None:
    cloudwatch = emulator.client("cloudwatch")
    common = {"ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": 1, "Threshold": 10}
    slow = {
        "Namespace": "Own",
        "MetricName": "ttft",
        "Dimensions": [{"Name": "endpoint", "Value": "e"}],
        "ExtendedStatistic": "p95",
        "Period": "10",
        "TreatMissingData": "notBreaching",
    }
    hidden = metric("m1", "ttft", "p50", ReturnData="false")
    math = {"Metrics": [{"Id": "e", "Expression": "m1 * 1"}, hidden]}
    template = {
        "Resources": {
            "Slow": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"AlarmName": "slow"} | common | slow},
            "Math": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"AlarmName": "math"} | common | math},
        }
    }
    cloudformation = emulator.client("cloudformation")
    cloudformation.create_stack(StackName="alarms", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="alarms", WaiterConfig={"Delay": 1})

    def keep_slow() -> bool:
        publish(cloudwatch, "ttft", *[1.0] * 9, 50.0)
        return state(cloudwatch, "slow") == "ALARM"

    # Another endpoint's values are another metric's, however slow.
    publish(cloudwatch, "ttft", 1000.0, endpoint="other")
    eventually(lambda: state(cloudwatch, "slow") == "OK")
    eventually(keep_slow)
    assert state(cloudwatch, "math") == "OK"
    eventually(lambda: state(cloudwatch, "slow") == "OK")
    history = cloudwatch.describe_alarm_history(AlarmName="slow", HistoryItemType="StateUpdate")
    summaries = [item["HistorySummary"] for item in history["AlarmHistoryItems"]]
    assert summaries[:2] == ["Alarm updated from ALARM to OK", "Alarm updated from OK to ALARM"]
    # What is missing is missing here: nothing says that all is well again.
    eventually(lambda: state(cloudwatch, "math") == "INSUFFICIENT_DATA")


def test_an_alarm_that_cannot_be_judged_is_refused(emulator: OwnEmulator) -> None:
    with pytest.raises(ClientError, match="SEARCH is not supported"):
        emulator.client("cloudwatch").put_metric_alarm(
            AlarmName="never",
            Metrics=[
                {"Id": "e", "Expression": "FIRST(SEARCH('{Own}', 'Sum', 10)) + m1"},
                metric("m1", "errors", ReturnData=False),
            ],
            ComparisonOperator="GreaterThanThreshold",
            Threshold=1,
            EvaluationPeriods=1,
        )


class _Mailbox:
    """A topic and what it has sent so far, as (alarm, state)."""

    def __init__(self, topic: str, queue: str, sqs: Any) -> None:
        self.topic, self._queue, self._sqs = topic, queue, sqs
        self._seen: list[tuple[str, str]] = []

    def read(self) -> list[tuple[str, str]]:
        found = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in found:
            told = json.loads(json.loads(message["Body"])["Message"])
            self._seen.append((told["AlarmName"], told["NewStateValue"]))
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return self._seen


def _mailbox(emulator: OwnEmulator, name: str) -> _Mailbox:
    sns, sqs = emulator.client("sns"), emulator.client("sqs")
    topic = sns.create_topic(Name=name)["TopicArn"]
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = allow("sqs:SendMessage", arn) | {"Principal": {"Service": "sns.amazonaws.com"}}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy(statement)})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return _Mailbox(topic, queue, sqs)
