"""What the laptop cloud's emulator weighs before and after light use: `python -m bench.emulator_memory`.

It starts an emulator of its own, deploys a function, a table, a bucket, a queue and a state machine, and then
makes the calls of `make traffic` at one request a second, as fast as the emulator takes them. Metrics
carry the times that they would have had at that rate. After every `--pause-every` requests it pauses, so that
the emulator also saves its state.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.emulator import OwnEmulator, allow

REQUESTS_PER_MINUTE = 60
ARTEFACT_BYTES = 4 * 1024 * 1024
SETTLE_SECONDS = 2.0
FUNCTION = """
import json, time
COUNTS = dict.fromkeys(["Requests", "Errors", "InputTokens", "OutputTokens", "Cost", "Blocked"], 1)
def handler(event, context):
    values = COUNTS | {"Latency": time.time() % 7, "TimeToFirstToken": time.time() % 3}
    print(json.dumps({"event": "request_received", "request_id": context.aws_request_id, "path": "/v1/chat"}))
    print(json.dumps({
        "_aws": {
            "Timestamp": event.get("moment_ms", int(time.time() * 1000)),
            "CloudWatchMetrics": [{
                "Namespace": "Evergreen",
                "Dimensions": [["endpoint"], ["endpoint", "variant"], ["endpoint", "model"]],
                "Metrics": [{"Name": name, "Unit": "Count"} for name in values],
            }],
        },
        "endpoint": "chat", "variant": "champion", "model": "tree", **values,
    }))
    print(json.dumps({"event": "request_finished", "status": 200, "text": "x" * 400}))
    return {"statusCode": 200, "body": "a" * 500}
"""
MACHINE: dict[str, Any] = {
    "StartAt": "First",
    "States": {
        "First": {"Type": "Pass", "Parameters": {"text": "y" * 2000}, "Next": "Call"},
        "Call": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True},
    },
}


class LightUse:
    """A deployed application and the calls that one request to it makes."""

    def __init__(self, emulator: OwnEmulator, requests: int) -> None:
        self._first_moment = time.time() - requests
        names = ("s3", "dynamodb", "lambda", "cloudwatch", "stepfunctions", "logs", "events", "sqs")
        self._clients = {name: emulator.client(name) for name in names}
        role = emulator.make_role("app", "lambda.amazonaws.com", allow("*"))
        emulator.make_function("app", role, {"app.py": FUNCTION})
        machine = MACHINE | {}
        machine["States"]["Call"]["Parameters"] = {"FunctionName": "app", "Payload": {"text": "z" * 1000}}
        states = emulator.make_role("machine", "states.amazonaws.com", allow("*"))
        self._machine = self._clients["stepfunctions"].create_state_machine(
            name="loop", definition=json.dumps(machine), roleArn=states
        )["stateMachineArn"]
        self._clients["s3"].create_bucket(Bucket="artefacts")
        self._clients["dynamodb"].create_table(
            TableName="usage",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self._queue = self._clients["sqs"].create_queue(QueueName="jobs")["QueueUrl"]

    def request(self, number: int) -> None:
        """What one request causes; larger things at every so many of them."""
        call, moment = self._clients, int(self._first_moment) + number
        call["lambda"].invoke(
            FunctionName="app", Payload=json.dumps({"text": "b" * 2000, "moment_ms": moment * 1000})
        )
        for kind in ("budget", "rate"):
            call["dynamodb"].update_item(
                TableName="usage",
                Key={"pk": {"S": f"{kind}#{number % 50}"}},
                UpdateExpression="ADD used :one",
                ExpressionAttributeValues={":one": {"N": "1"}},
            )
        call["dynamodb"].get_item(TableName="usage", Key={"pk": {"S": f"budget#{number % 50}"}})
        metric = {"MetricName": "Users", "Value": float(number), "Timestamp": moment}
        call["cloudwatch"].put_metric_data(Namespace="Evergreen", MetricData=[metric])
        if number % 10 == 0:
            call["s3"].put_object(Bucket="artefacts", Key=f"records/{number}", Body=b"r" * 20_000)
            call["sqs"].send_message(QueueUrl=self._queue, MessageBody="m" * 2000)
            for message in call["sqs"].receive_message(QueueUrl=self._queue).get("Messages", []):
                call["sqs"].delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        if number % 30 == 0:
            call["stepfunctions"].start_execution(stateMachineArn=self._machine)
            event = {"Source": "evergreen", "DetailType": "Release", "Detail": json.dumps({"t": "e" * 2000})}
            call["events"].put_events(Entries=[event])
        if number % 60 == 0:
            key = f"models/{number // 60 % 5}"
            call["s3"].put_object(Bucket="artefacts", Key=key, Body=os.urandom(ARTEFACT_BYTES))
            call["s3"].get_object(Bucket="artefacts", Key=key)["Body"].read()

    def run(self, first: int, count: int) -> None:
        """Make the calls of `count` requests, two at a time."""
        with ThreadPoolExecutor(2) as pool:
            for _done in pool.map(self.request, range(first, first + count)):
                pass


def memory_mb(pid: int) -> dict[str, int]:
    """Resident memory now and at its highest, in MB, from the kernel."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
    return {name: int(value.split()[0]) // 1024 for name, value in fields.items()}


def _wait_for_snapshot(emulator: OwnEmulator) -> None:
    """Wait until a state was saved that began after the last request."""
    current, now = emulator.home / "cloud" / "state" / "current", time.time()
    while not current.exists() or current.stat().st_mtime < now:
        time.sleep(0.2)
    time.sleep(SETTLE_SECONDS)


def measure(emulator: OwnEmulator, minutes: float, pause_every: int) -> Iterator[dict[str, Any]]:
    """Figures at the start (after a first minute's requests and a saved state) and after each pause."""
    assert emulator.process is not None
    done, total = REQUESTS_PER_MINUTE, round(minutes * REQUESTS_PER_MINUTE)
    use, began = LightUse(emulator, total), time.monotonic()
    use.run(0, REQUESTS_PER_MINUTE)
    while True:
        _wait_for_snapshot(emulator)
        seconds = round(time.monotonic() - began)
        yield {"requests": done, "seconds": seconds} | memory_mb(emulator.process.pid)
        if done >= total:
            return
        use.run(done, min(pause_every, total - done))
        done += min(pause_every, total - done)


def main() -> None:
    """Print a line per pause and the ratio of end to start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="of traffic at one request a second")
    parser.add_argument("--pause-every", type=int, default=600, help="requests between saved states")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="emulator-memory-"))
    emulator = OwnEmulator(home)
    try:
        emulator.start()
        figures = []
        for figure in measure(emulator, given.minutes, given.pause_every):
            figures.append(figure)
            print(json.dumps(figure), flush=True)
        print(f"end / start: {figures[-1]['VmRSS'] / figures[0]['VmRSS']:.2f}")
    finally:
        emulator.stop()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
