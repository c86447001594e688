"""`make refresh`: starts the refresh loop, gives it users, follows it live and tells how it ended.

Runs in the `cloud` environment. It only uses what an operator has on AWS: S3, Step Functions, SageMaker and
the ledger table. Interrupting it leaves the loop running; `make refresh WATCH=1` follows it again.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from local.bringup import client, outputs_of
from local.chat import read_outputs
from local.home import REPOSITORY, Home
from operations.progress import CommandError, fail

DATA = REPOSITORY / "tests" / "fixtures" / "support" / "support_pairs.jsonl"
ROUTINE = (
    *("Wait", "AnalyzeCanary", "CanaryDecision", "NextStage", "MoreStages"),
    *("HasSecondRegion", "ApprovalMode", "HasAbandonedExperiment", "RestoreNeeded"),
)
POLL_SECONDS = 2.0
LONGEST_SECONDS = 3600.0
TRAFFIC_RATE = 2.0
# Users ask from here on; before it only the jobs need the machine's cores.
TRAFFIC_FROM = "Register"


def upload_data(home: Home, data: Path) -> int:
    """Replaces the loop's source data by one file; returns its rows."""
    bucket, _, prefix = outputs_of(home, "refresh")["SourceDataUri"].removeprefix("s3://").partition("/")
    s3 = client(home, "s3")
    for entry in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
        s3.delete_object(Bucket=bucket, Key=entry["Key"])
    s3.upload_file(str(data), bucket, f"{prefix}{data.name}")
    return len(data.read_text().splitlines())


def start(home: Home, machine: str) -> str:
    """Starts one release; returns its execution's ARN."""
    name = datetime.now(UTC).strftime("release-%Y%m%d-%H%M%S")
    started = client(home, "stepfunctions").start_execution(
        stateMachineArn=machine, name=name, input=json.dumps({"trigger": "command"})
    )
    return str(started["executionArn"])


def newest(home: Home, machine: str) -> str:
    """The execution that runs, or else the last one. Raises CommandError when there never was one."""
    found = client(home, "stepfunctions").list_executions(stateMachineArn=machine, maxResults=1)["executions"]
    if not found:
        raise CommandError("the loop never ran: `make refresh` starts it.")
    return str(found[0]["executionArn"])


class Follower:
    """Prints an execution's states as they are entered, with weights and the verdict so far."""

    def __init__(self, home: Home, execution: str) -> None:
        self._states = client(home, "stepfunctions")
        self._sagemaker = client(home, "sagemaker")
        self._endpoint = read_outputs(home)["endpoint_name"]
        self._execution = execution
        self._seen = 0
        self._line = ""

    def news(self) -> Iterator[str]:
        """Names of the states entered since the last call, printed on the way."""
        pages = self._states.get_paginator("get_execution_history").paginate(executionArn=self._execution)
        events = [event for page in pages for event in page["events"]]
        began = events[0]["timestamp"] if events else None
        for event in events[self._seen :]:
            elapsed = (event["timestamp"] - began).total_seconds()
            if entered := event.get("stateEnteredEventDetails"):
                self._entered(elapsed, entered["name"])
                yield entered["name"]
            elif left := event.get("stateExitedEventDetails"):
                self._verdict(elapsed, left)
        self._seen = len(events)

    def _entered(self, elapsed: float, name: str) -> None:
        """A state worth a line: waiting, counting and asking which way to go are not."""
        if not name.startswith(ROUTINE) and not name.endswith("Ready"):
            self._say(elapsed, name, self._shares())

    def _say(self, elapsed: float, what: str, detail: str) -> None:
        line = f"{what:<22} {detail}".rstrip()
        if line != self._line:  # waiting states come again and again
            print(f"  {int(elapsed) // 60:>3}:{int(elapsed) % 60:02d}  {line}", flush=True)
        self._line = line

    def _verdict(self, elapsed: float, left: dict[str, Any]) -> None:
        name = "verdict" if left["name"] == "AnalyzeCanary" else left["name"].lower()
        said = json.loads(left.get("output") or "{}").get(name) if name in ("gate", "verdict") else None
        if said:  # a task that failed has left nothing
            self._say(elapsed, f"  {said.get('verdict') or said['decision']}", said["reason"])

    def _shares(self) -> str:
        try:
            variants = self._sagemaker.describe_endpoint(EndpointName=self._endpoint)["ProductionVariants"]
        except ClientError:
            return ""
        total = sum(v["CurrentWeight"] for v in variants) or 1
        if len(variants) < 2:
            return ""
        return ", ".join(f"{v['VariantName']} {v['CurrentWeight'] / total:.0%}" for v in variants)

    def status(self) -> dict[str, Any]:
        """The execution's description."""
        described: dict[str, Any] = self._states.describe_execution(executionArn=self._execution)
        return described


@contextmanager
def users(home: Home, data: Path, rate: float, log: Path) -> Iterator[Any]:
    """A callable that starts the simulated users once; they are stopped at the end of the block."""
    running: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        if running:
            return
        with log.open("wb") as out:
            running.append(
                subprocess.Popen(
                    [home.python("serving"), "bench/traffic.py", "--outputs", home.outputs, "--data", data,
                     "--rate", str(rate), "--seconds", str(LONGEST_SECONDS)],
                    cwd=REPOSITORY,
                    env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            )  # fmt: skip

    try:
        yield begin
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=90)
            except subprocess.TimeoutExpired:
                process.kill()


def follow(home: Home, execution: str, data: Path, rate: float) -> str:
    """Follows to the end, with users from the experiment on; returns the final status.

    Raises CommandError when the loop takes too long.
    """
    follower = Follower(home, execution)
    deadline = time.monotonic() + LONGEST_SECONDS
    with users(home, data, rate, home.logs / "traffic.log") as begin:
        while time.monotonic() < deadline:
            for state in follower.news():
                if state == TRAFFIC_FROM:
                    begin()
            status = follower.status()["status"]
            if status != "RUNNING":
                list(follower.news())
                return str(status)
            time.sleep(POLL_SECONDS)
    raise CommandError(
        f"the loop still runs after {LONGEST_SECONDS / 60:.0f} minutes: follow it in the console."
    )


def tell(home: Home, release: str) -> None:
    """Prints the release's story from the ledger and fetches its report."""
    data = outputs_of(home, "data")
    rows = client(home, "dynamodb").query(
        TableName=data["LedgerTableName"],
        KeyConditionExpression="pk = :id",
        ExpressionAttributeValues={":id": {"S": f"RELEASE#{release}"}},
    )["Items"]
    print("\nThe ledger's story")
    for row in rows:
        cells = {name: next(iter(value.values())) for name, value in row.items()}
        print(
            f"  {cells.get('step', ''):<20} {cells.get('outcome', ''):<14} {cells.get('reason', '')}".rstrip()
        )
    folder = home.root / "reports" / release
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("report.html", "report.json"):
        try:
            client(home, "s3").download_file(
                data["ArtefactsBucketName"], f"releases/{release}/report/{name}", str(folder / name)
            )
        except ClientError:
            print("\nNo report: the loop ended before the comparison.")
            return
    print(f"\nReport: {folder / 'report.html'}")


def refresh(home: Home, data: Path, *, watch: bool, rate: float = TRAFFIC_RATE) -> int:
    """One release from start to end, or the one under way; 0 when it succeeded."""
    machine = outputs_of(home, "refresh")["StateMachineArn"]
    traffic = home.logs / "traffic.log"
    traffic.unlink(missing_ok=True)
    if watch:
        execution = newest(home, machine)
    else:
        rows = upload_data(home, data)
        print(f"{rows} support pairs from {data}")
        execution = start(home, machine)
    release = execution.rpartition(":")[2]
    print(f"{release}: follow it here or in the console\n", flush=True)
    status = follow(home, execution, data, rate)
    tell(home, release)
    if traffic.exists():
        print(f"\nWhat the users saw ({traffic}):\n{traffic.read_text()}")
    print(f"\n{release}: {status}")
    return 0 if status == "SUCCEEDED" else 1


def main(words: list[str] | None = None) -> int:
    """Parses the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="local.refresh")
    parser.add_argument("--data", type=Path, default=DATA, help="support pairs, jsonl")
    parser.add_argument(
        "--watch", action="store_true", help="follow the newest release instead of starting one"
    )
    parser.add_argument(
        "--rate", type=float, default=TRAFFIC_RATE, help="requests per second of the simulated users"
    )
    given = parser.parse_args(words)
    home = Home.from_environment()
    try:
        if not given.data.is_file():
            raise CommandError(f"{given.data} does not exist: give a jsonl file of support pairs with DATA=…")
        if given.rate <= 0:
            raise CommandError(f"--rate {given.rate:g} sends no request: give a number above 0.")
        return refresh(home, given.data, watch=given.watch, rate=given.rate)
    except CommandError as problem:
        return fail(problem)
    except KeyboardInterrupt:
        return fail(
            CommandError("no longer watching; the loop goes on. `make refresh WATCH=1` follows it again.")
        )


if __name__ == "__main__":
    sys.exit(main())
