"""The refresh loop with the tiny model: it ends well, or it says why and leaves no trace."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from typing import Any

import httpx
import pytest

from tests.support.laptop import REPOSITORY, Laptop

PAIRS = REPOSITORY / "tests" / "fixtures" / "support" / "support_pairs.jsonl"
ENDS_WITHIN_SECONDS = 1500


def put_data(laptop: Laptop, text: str) -> None:
    """Makes one file the loop's whole source data."""
    bucket, _, prefix = laptop.stack_outputs("refresh")["SourceDataUri"].removeprefix("s3://").partition("/")
    laptop.aws("s3").put_object(Bucket=bucket, Key=f"{prefix}pairs.jsonl", Body=text.encode())


def start(laptop: Laptop) -> str:
    """Starts a release; returns its execution's ARN."""
    machine = laptop.stack_outputs("refresh")["StateMachineArn"]
    started = laptop.aws("stepfunctions").start_execution(
        stateMachineArn=machine,
        name=f"test-{uuid.uuid4().hex[:12]}",
        input=json.dumps({"trigger": "command"}),
    )
    return str(started["executionArn"])


def end_of(laptop: Laptop, execution: str) -> dict[str, Any]:
    """The execution's description once it has ended."""
    states = laptop.aws("stepfunctions")
    deadline = time.monotonic() + ENDS_WITHIN_SECONDS
    while time.monotonic() < deadline:
        described: dict[str, Any] = states.describe_execution(executionArn=execution)
        if described["status"] != "RUNNING":
            return described
        time.sleep(2)
    pytest.fail(f"{execution} still runs")


def ledger(laptop: Laptop, pk: str) -> list[dict[str, str]]:
    """Rows of the ledger under one key, in order, as plain strings."""
    rows = laptop.aws("dynamodb").query(
        TableName=laptop.stack_outputs("data")["LedgerTableName"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": pk}},
    )["Items"]
    return [{name: str(next(iter(value.values()))) for name, value in row.items()} for row in rows]


def champion(laptop: Laptop) -> str:
    """The digest of the artefact that the serving stack names."""
    (stack,) = laptop.aws("cloudformation").describe_stacks(StackName="evergreen-local-serving")["Stacks"]
    values = {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}
    return str(values["ChampionModelDigest"])


def report(laptop: Laptop, release: str) -> str:
    """The page that a release leaves for people."""
    bucket = laptop.stack_outputs("data")["ArtefactsBucketName"]
    found = laptop.aws("s3").get_object(Bucket=bucket, Key=f"releases/{release}/report/report.html")
    return str(found["Body"].read().decode())


def serves_alone(laptop: Laptop) -> bool:
    """Whether the endpoint is in service with the champion variant only, and answers."""
    described = laptop.aws("sagemaker").describe_endpoint(EndpointName=laptop.outputs["endpoint_name"])
    names = [variant["VariantName"] for variant in described["ProductionVariants"]]
    answer = laptop.openai().chat.completions.create(
        model=laptop.model, messages=[{"role": "user", "content": "Hi"}], max_tokens=2
    )
    return described["EndpointStatus"] == "InService" and names == ["champion"] and bool(answer.choices)


def test_broken_data_ends_the_release_with_file_and_line(laptop: Laptop) -> None:
    before = champion(laptop)
    put_data(laptop, PAIRS.read_text() + "{broken\n")
    execution = start(laptop)
    assert end_of(laptop, execution)["status"] == "FAILED"
    (last,) = ledger(laptop, f"RELEASE#{execution.rpartition(':')[2]}")[-1:]
    assert f"pairs.jsonl line {len(PAIRS.read_text().splitlines()) + 1}:" in last["reason"]
    assert champion(laptop) == before
    assert ledger(laptop, f"LOCK#{laptop.outputs['endpoint_name']}") == []
    assert serves_alone(laptop)


@pytest.mark.timeout(2 * ENDS_WITHIN_SECONDS)
def test_one_of_two_starts_runs_and_a_challenger_that_is_no_better_is_kept_out(laptop: Laptop) -> None:
    """A random model learns nothing of use from a few hundred pairs: the gate keeps the champion."""
    before = champion(laptop)
    put_data(laptop, PAIRS.read_text())
    first = start(laptop)
    lock = f"LOCK#{laptop.outputs['endpoint_name']}"
    deadline = time.monotonic() + 60
    while not ledger(laptop, lock) and time.monotonic() < deadline:
        time.sleep(0.5)
    second = start(laptop)
    ended = end_of(laptop, second)
    assert ended["status"] == "FAILED"
    assert "Locked" in ended.get("error", "") + ended.get("cause", "")
    assert ledger(laptop, lock)[0]["release_id"] == first.rpartition(":")[2]

    assert end_of(laptop, first)["status"] == "SUCCEEDED"
    story = ledger(laptop, f"RELEASE#{first.rpartition(':')[2]}")
    gate = next(row for row in story if row["step"] == "gate")
    assert gate["outcome"] == "keep"
    assert gate["reason"].endswith(".")
    assert story[-1]["step"] == "release_lock"
    assert champion(laptop) == before
    assert ledger(laptop, lock) == []
    assert serves_alone(laptop)
    page = report(laptop, first.rpartition(":")[2])
    assert "token f1" in page.lower()
    assert "<script" not in page


def test_a_killed_emulator_leaves_no_lock_behind(laptop: Laptop) -> None:
    put_data(laptop, PAIRS.read_text())
    caught = start(laptop)
    lock = f"LOCK#{laptop.outputs['endpoint_name']}"
    deadline = time.monotonic() + 60
    while not ledger(laptop, lock) and time.monotonic() < deadline:
        time.sleep(0.5)
    health = httpx.get(f"http://127.0.0.1:{laptop.port}/_evergreen/health", timeout=10).json()
    os.kill(int(health["pid"]), signal.SIGKILL)
    laptop.up()
    machine = laptop.stack_outputs("refresh")["StateMachineArn"]
    known = laptop.aws("stepfunctions").list_executions(stateMachineArn=machine)["executions"]
    assert {one["executionArn"]: one["status"] for one in known}.get(caught) != "RUNNING"
    put_data(laptop, "{broken\n")
    next_one = start(laptop)
    assert end_of(laptop, next_one)["status"] == "FAILED"
    story = ledger(laptop, f"RELEASE#{next_one.rpartition(':')[2]}")
    assert story[0]["step"] == "acquire_lock"
    assert "pairs.jsonl line 1:" in story[-1]["reason"]
    assert ledger(laptop, lock) == []
    assert serves_alone(laptop)
