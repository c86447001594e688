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
from local.cloud.ministack_adapter.scope import account_scope
from ministack.services import cloudwatch, cloudwatch_logs, eventbridge, stepfunctions

ministack_adapter.install("%s", "%s")
ministack_adapter.bound_metrics()
counts = {}
for batch in range(2 * retention.MAX_EVENTS_PER_LOG_GROUP // 1000):
    lines = [(1_000_000 * batch + number, "line") for number in range(1000)]
    ministack_adapter.put_log_events("group", f"stream-{batch}", lines)
ago = time.time() // 60 * 60 - 3600
for number in range(retention.MAX_UNSWEPT_SAMPLES + 1):
    datum = {"MetricName": "Latency", "Timestamp": ago + number / 100, "Value": float(number %% 3)}
    ministack_adapter.put_metric_data("Evergreen", [datum])
ministack_adapter.evaluate_alarms()
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


CONNECTIONS = """
import asyncio, socket
from local.cloud.http_server import serve_until_stopped

async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    elif scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})

async def ask(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\\r\\nHost: here\\r\\n\\r\\n")
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.close()
    await writer.wait_closed()

async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    server = asyncio.create_task(serve_until_stopped(application, listener))
    await ask(listener.getsockname()[1])
    for _ in range(20):
        await ask(listener.getsockname()[1])
    for _turn in range(500):
        if len(asyncio.all_tasks()) < 12:
            break
        await asyncio.sleep(0.02)
    print(len(asyncio.all_tasks()), flush=True)
    server.cancel()

try:
    asyncio.run(main())
except asyncio.CancelledError:
    pass
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the emulator's environment."""
    environment = {
        "PATH": os.environ["PATH"],
        "AUTH": "true",
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
    }
    command = [VENVS / "cloud" / "bin" / "python", "-c", script]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )


def test_a_connection_that_its_client_closed_leaves_no_task_behind() -> None:
    done = run(CONNECTIONS)

    assert done.stdout, done.stderr
    assert int(done.stdout.split()[0]) < 12


def test_every_store_that_use_fills_has_a_bound() -> None:
    done = run(SCRIPT % (ACCOUNT, REGION))

    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts.pop("log_events") <= MAX_EVENTS_PER_LOG_GROUP
    assert counts == {
        "streams": MAX_EVENTS_PER_LOG_GROUP // 1000,
        "log_event_copies": 0,
        "samples": 3,
        "dimensions": 1,
        "noted_events": 0,
        "executions": MAX_EXECUTIONS_PER_STATE_MACHINE,
    }
