"""The deployed dashboard and alarms: no widget without data, and each alarm fires for its own cause and ends.

Waits have deadlines far above what they take; no test asserts how long anything took.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from contracts import metrics
from local.console import widgets
from tests.cloud.test_faults import ask, handler_processes
from tests.support.laptop import EMBEDDING, Laptop

WAIT_SECONDS = 420
PREFIX = "evergreen-local"
ALARMS = [
    f"{PREFIX}-{name}"
    for name in (
        "availability",
        "time-to-first-token",
        "endpoint5xx",
        "refresh-failed",
        "update-rolled-back",
        "jobs-dlq-not-empty",
        f"model5xx-{EMBEDDING}",
        "page",
    )
]
HELLO = [{"role": "user", "content": "Hello there"}]


def eventually(found: Callable[[], Any], what: str) -> Any:
    """What `found` answers as soon as it is true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (answer := found()):
        assert time.monotonic() < deadline, f"{what} did not happen within {WAIT_SECONDS} s"
        time.sleep(1)
    return answer


@pytest.fixture(scope="module")
def watched(laptop: Laptop) -> Laptop:
    """The laptop cloud with a little of everything behind it: answers, a refusal, an error, feedback."""
    laptop.aws("sqs").purge_queue(QueueUrl=_dead_tickets(laptop))  # what tests of broken rights left there
    client = laptop.openai()
    answers = [
        client.chat.completions.create(model=laptop.model, messages=HELLO, max_tokens=8) for _ in range(3)
    ]
    for _chunk in client.chat.completions.create(
        model=laptop.model, messages=HELLO, max_tokens=8, stream=True
    ):
        pass
    for answer in answers:
        feedback = {"request_id": laptop.settled(answer.id), "score": 0.75}
        reply = httpx.post(f"{laptop.api_url}/feedback", json=feedback, headers=laptop.headers, timeout=60)
        assert reply.status_code in (200, 201, 202), reply.text
    ask(laptop, "no-such-model")
    with _unwell(laptop):
        eventually(lambda: ask(laptop, laptop.model).status_code >= 500, "an error")
    eventually(lambda: ask(laptop, laptop.model).status_code == 200, "the recovery")
    eventually(lambda: _embeds(laptop), "the recovery of the model for embeddings")
    return laptop


def _embeds(laptop: Laptop) -> bool:
    asked = {"model": EMBEDDING, "input": "Hello"}
    reply = httpx.post(f"{laptop.api_url}/embeddings", json=asked, headers=laptop.headers, timeout=60)
    return reply.status_code == 200


def _dead_tickets(laptop: Laptop) -> str:
    """The address of the queue of jobs' tickets that were given up."""
    return str(laptop.aws("sqs").get_queue_url(QueueName=f"{PREFIX}-jobs-dead")["QueueUrl"])


@contextlib.contextmanager
def _unwell(laptop: Laptop) -> Iterator[None]:
    """Meanwhile every model process is killed as soon as it is seen."""
    over = False

    def kill() -> None:
        while not over:
            for pid in handler_processes(laptop):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.5)

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill)
        try:
            yield
        finally:
            over = True
            killing.result(timeout=60)


def states(laptop: Laptop) -> dict[str, str]:
    """All alarms of the environment with their states."""
    found = laptop.aws("cloudwatch").describe_alarms(
        AlarmNamePrefix=PREFIX, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    both = found["MetricAlarms"] + found["CompositeAlarms"]
    return {alarm["AlarmName"].removeprefix(f"{PREFIX}-"): alarm["StateValue"] for alarm in both}


def start_release(laptop: Laptop) -> str:
    """A release by hand; its execution's ARN."""
    machine = laptop.stack_outputs("refresh")["StateMachineArn"]
    return str(laptop.aws("stepfunctions").start_execution(stateMachineArn=machine)["executionArn"])


def test_no_widget_is_dead(watched: Laptop) -> None:
    cloudwatch = watched.aws("cloudwatch")
    # The judge publishes its verdict in the middle of a canary, which this test does not run.
    cloudwatch.put_metric_data(
        Namespace=metrics.NAMESPACE,
        MetricData=[
            {
                "MetricName": metrics.RELEASE_VERDICT,
                "Dimensions": [{"Name": metrics.DIM_ENDPOINT, "Value": watched.outputs["endpoint_name"]}],
                "Value": 1,
            }
        ],
    )
    execution = start_release(watched)
    watched.aws("stepfunctions").stop_execution(executionArn=execution)
    name = watched.stack_outputs("monitoring")["DashboardName"]
    body = json.loads(cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"])
    graphs = [widget["properties"] for widget in body["widgets"] if widget["type"] == "metric"]
    assert len(graphs) > 10

    def without_data() -> list[str]:
        return [graph["title"] for graph in graphs if not _points(cloudwatch, graph)]

    with contextlib.suppress(AssertionError):  # which they are is said below
        eventually(lambda: not without_data(), "data in every widget")
    assert without_data() == []


def _points(cloudwatch: Any, graph: dict[str, Any]) -> int:
    now = datetime.now(UTC)
    results = cloudwatch.get_metric_data(
        MetricDataQueries=widgets.queries(graph),
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=1),
    )["MetricDataResults"]
    assert all(result["StatusCode"] == "Complete" for result in results)
    return sum(len(result["Values"]) for result in results)


def test_the_alarm_widget_names_the_deployed_alarms(watched: Laptop) -> None:
    cloudwatch = watched.aws("cloudwatch")
    name = watched.stack_outputs("monitoring")["DashboardName"]
    body = json.loads(cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"])
    (shown,) = [widget["properties"]["alarms"] for widget in body["widgets"] if widget["type"] == "alarm"]
    assert sorted(arn.rpartition(":alarm:")[2] for arn in shown) == sorted(ALARMS)


def test_a_model_that_keeps_dying_sets_off_its_alarms_and_one_page(watched: Laptop) -> None:
    _all_quiet(watched)
    model = watched.model
    with _unwell(watched):

        def noticed() -> bool:
            for _ in range(4):
                ask(watched, model)
                _ask_the_endpoint(watched)
            now = states(watched)
            return all(now[name] == "ALARM" for name in ("availability", "endpoint5xx", "page"))

        eventually(noticed, "the alarms")
        assert states(watched)["refresh-failed"] == "OK"
    eventually(lambda: ask(watched, model).status_code == 200, "the recovery")
    _all_quiet(watched)


def _ask_the_endpoint(laptop: Laptop) -> None:
    """Past the gateway, which spares an endpoint that keeps failing."""
    with contextlib.suppress(ClientError):
        laptop.aws("sagemaker-runtime").invoke_endpoint(
            EndpointName=laptop.outputs["endpoint_name"], ContentType="application/json", Body=b"{}"
        )


def test_a_model_that_answers_late_sets_off_the_alarm_on_the_first_token(watched: Laptop) -> None:
    _all_quiet(watched)
    model = watched.model

    def late() -> bool:
        with ThreadPoolExecutor(5) as pool, _asleep(watched, seconds=4):
            replies = list(pool.map(lambda _: ask(watched, model).status_code, range(5)))
        assert set(replies) <= {200, 503}, replies
        return states(watched)["time-to-first-token"] == "ALARM"

    eventually(late, "the alarm on the first token")
    eventually(lambda: states(watched)["page"] == "ALARM", "the page")
    _all_quiet(watched)


@contextlib.contextmanager
def _asleep(laptop: Laptop, seconds: float) -> Iterator[None]:
    """For some seconds from now on the model processes do nothing."""
    asleep = handler_processes(laptop)
    for pid in asleep:
        os.kill(pid, signal.SIGSTOP)

    def wake() -> None:
        time.sleep(seconds)
        for pid in asleep:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    with ThreadPoolExecutor(1) as pool:
        waking = pool.submit(wake)
        try:
            yield
        finally:
            waking.result(timeout=60)


def test_faults_that_no_caller_feels_set_off_their_alarms_and_no_page(watched: Laptop) -> None:
    """A release that fails, then a ticket that nobody could answer."""
    _all_quiet(watched)
    seen: set[str] = set()

    def noticed(alarm: str) -> bool:
        now = states(watched)
        seen.update(name for name, state in now.items() if state == "ALARM")
        return now[alarm] == "ALARM"

    execution = start_release(watched)
    eventually(lambda: noticed("refresh-failed"), "the alarm on releases")
    # Nobody has recorded anything that could be trained on: the release ends before it trains.
    assert watched.aws("stepfunctions").describe_execution(executionArn=execution)["status"] == "FAILED"
    assert seen == {"refresh-failed"}

    queues, dead = watched.aws("sqs"), _dead_tickets(watched)
    queues.send_message(QueueUrl=dead, MessageBody="{}")
    eventually(lambda: noticed("jobs-dlq-not-empty"), "the alarm on jobs")
    assert seen == {"refresh-failed", "jobs-dlq-not-empty"}
    queues.purge_queue(QueueUrl=dead)
    _all_quiet(watched)


def _all_quiet(laptop: Laptop) -> None:
    eventually(lambda: set(states(laptop).values()) == {"OK"}, "all alarms OK")
    assert len(states(laptop)) == len(ALARMS)
