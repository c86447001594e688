"""`trace`: the lines of one request from the API's, the functions' and the containers' logs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from infra.settings import load
from operations.progress import CommandError
from operations.target import Target
from operations.trace import screen, trace_lines
from tests.support.recorded_aws import RecordedAccount, Refusal

TRACE, REQUEST = "4bf92f3577b34da6a3ce929d0e0e4736", "r-1"
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
LOGS: dict[str, list[dict[str, Any]]] = {
    "access": [{"request_id": REQUEST, "path": "/v1/chat/completions", "status": "200", "at": 300}],
    "inference": [
        {"request_id": REQUEST, "trace_id": TRACE, "span_id": "a" * 16, "event": "request", "at": 200},
        {"request_id": REQUEST, "_aws": {}, "at": 200},
        {"request_id": "r-2", "trace_id": "5" * 32, "event": "request", "at": 250},
        {"request_id": "r-3", "trace_id": TRACE, "event": "request", "at": 400},
    ],
    "/aws/sagemaker/Endpoints/evergreen-prod": [
        {
            "request_id": REQUEST,
            "trace_id": TRACE,
            "parent_span_id": "b" * 16,
            "message": "request",
            "queue_ms": 0.1,
            "prefill_ms": 20.0,
            "at": 100,
        },
    ],
}


def account() -> RecordedAccount:
    def filter_events(asked: dict[str, Any]) -> Any:
        if asked["logGroupName"] not in LOGS:
            return Refusal("ResourceNotFoundException")
        lines = [
            {name: value for name, value in line.items() if name != "at"}
            for line in LOGS[asked["logGroupName"]]
        ]
        texts = [json.dumps(line) for line in lines]
        times = [int(NOON.timestamp() * 1000) + line["at"] for line in LOGS[asked["logGroupName"]]]
        found = [
            {"message": text, "timestamp": at}
            for text, at in zip(texts, times, strict=True)
            if asked["filterPattern"] in text
        ]
        return {"events": [*found, {"message": f"START {asked['filterPattern']}", "timestamp": 0}]}

    def group(name: str) -> dict[str, Any]:
        return {
            "LogicalResourceId": name,
            "PhysicalResourceId": name,
            "ResourceType": "AWS::Logs::LogGroup",
            "LastUpdatedTimestamp": NOON,
            "ResourceStatus": "CREATE_COMPLETE",
        }

    stack = {"StackName": "evergreen-prod-gateway", "StackStatus": "CREATE_COMPLETE", "CreationTime": NOON}
    return RecordedAccount(
        {
            "cloudformation.DescribeStacks": {"Stacks": [stack]},
            "cloudformation.ListStackResources": {
                "StackResourceSummaries": [group("access"), group("inference"), group("not yet")]
            },
            "logs.FilterLogEvents": filter_events,
        }
    )


def lines(id: str) -> list[tuple[str, str]]:
    target = Target(load("prod"), account(), "", {})  # type: ignore[arg-type]
    return [(line.source, str(line.fields.get("request_id"))) for line in trace_lines(target, id)]


@pytest.mark.parametrize("id", [REQUEST, TRACE], ids=["a request's", "a trace's"])
def test_a_request_is_found_by_either_id_from_the_container_to_the_api(id: str) -> None:
    """With what else happened in its trace, and nothing of another."""
    assert lines(id) == [("container", REQUEST), ("api", REQUEST), ("api", REQUEST), ("api", "r-3")]


def test_the_screen_tells_the_times() -> None:
    target = Target(load("prod"), account(), "", {})  # type: ignore[arg-type]
    shown = screen(trace_lines(target, REQUEST)).splitlines()
    assert shown[0] == f"trace {TRACE}"
    assert shown[1] == "12:00:00.100  container  message=request  queue_ms=0.1  prefill_ms=20.0"
    assert shown[3] == "12:00:00.300  api        path=/v1/chat/completions  status=200"


@pytest.mark.parametrize("id", ["nothing-like-it", 'a" || "', ""])
def test_an_id_that_nobody_logged_is_said(id: str) -> None:
    with pytest.raises(CommandError, match="id"):
        lines(id)
