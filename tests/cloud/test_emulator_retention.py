"""The emulator's own stores stay within their bounds, counted inside a process that has the emulator."""

from __future__ import annotations

import json
import os
import subprocess

from local.cloud.retention import MAX_EVENTS_PER_LOG_GROUP, MAX_EXECUTIONS_PER_STATE_MACHINE
from tests.support.emulator import ACCOUNT, REGION, VENVS
from tests.support.laptop import REPOSITORY

SCRIPT = """
import json, time
from local.cloud import ministack_adapter, retention
from local.cloud.ministack_adapter.cloudwatch import sweep_metrics
from local.cloud.ministack_adapter.scope import account_scope
from ministack.services import cloudwatch, cloudwatch_logs, eventbridge, stepfunctions

ministack_adapter.install("%s", "%s")
ministack_adapter.bound_metrics()
counts = {}
for batch in range(2 * retention.MAX_EVENTS_PER_LOG_GROUP // 1000):
    lines = [(1_000_000 * batch + number, "line") for number in range(1000)]
    ministack_adapter.put_log_events("group", f"stream-{batch}", lines)
ago = time.time() // 60 * 60 - 3600
for number in range(600):
    datum = {"MetricName": "Latency", "Timestamp": ago + number / 10, "Value": float(number %% 3)}
    ministack_adapter.put_metric_data("Evergreen", [datum])
sweep_metrics(time.time())
for number in range(20):
    ministack_adapter.emit_event("aws.test", "Something", {"number": number})
with account_scope():
    group = cloudwatch_logs._log_groups["group"]["streams"]
    counts["streams"] = len(group)
    counts["log_events"] = sum(len(stream["events"]) for stream in group.values())
    counts["log_event_copies"] = len(list(cloudwatch_logs._log_records.values()))
    (samples,) = list(cloudwatch._metrics.values())
    counts["samples"], counts["dimensions"] = len(samples), len({id(one["Dimensions"]) for one in samples})
    counts["noted_events"] = len(eventbridge._events_log_list())
    for number in range(retention.MAX_EXECUTIONS_PER_STATE_MACHINE + 9):
        execution = {"executionArn": f"arn:{number}", "stateMachineArn": "arn:machine", "name": "n",
                     "status": "SUCCEEDED", "startDate": "2026-11-30T00:00:00Z", "events": [], "input": "{}",
                     "stopDate": f"2026-11-30T00:00:00.{number:06}Z", "output": None}
        stepfunctions._executions[execution["executionArn"]] = execution
        stepfunctions._emit_execution_status_event(execution)
    counts["executions"] = len(list(stepfunctions._executions.values()))
print(json.dumps(counts))
"""


def test_every_store_that_use_fills_has_a_bound() -> None:
    done = subprocess.run(
        [VENVS / "cloud" / "bin" / "python", "-c", SCRIPT % (ACCOUNT, REGION)],
        cwd=REPOSITORY,
        env={
            "PATH": os.environ["PATH"],
            "AUTH": "true",
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts.pop("log_events") <= MAX_EVENTS_PER_LOG_GROUP
    assert counts == {
        "streams": 10,
        "log_event_copies": 0,
        "samples": 3,
        "dimensions": 1,
        "noted_events": 0,
        "executions": MAX_EXECUTIONS_PER_STATE_MACHINE,
    }
