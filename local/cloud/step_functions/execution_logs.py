"""A state machine's log group: the events of its executions, as far as its logging level wants them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from local.cloud import ministack_adapter

_FATAL = ("ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut")
_ERRORS = ("Failed", "Aborted", "TimedOut")
_DATA = ("input", "output")


def write(execution: Mapping[str, Any], machine: Mapping[str, Any], event: Mapping[str, Any]) -> None:
    """Put one event into the log group of the machine's logging configuration, if it has one."""
    logging = machine.get("loggingConfiguration") or {}
    destinations = logging.get("destinations") or []
    if not destinations or not _wanted(str(event["type"]), str(logging.get("level", "OFF"))):
        return
    started = datetime.fromisoformat(str(execution["startDate"]).replace("Z", "+00:00"))
    moment = datetime.fromisoformat(str(event["timestamp"]).replace("Z", "+00:00"))
    milliseconds = int(moment.timestamp() * 1000)
    line = {
        "id": str(event["id"]),
        "type": event["type"],
        "details": _details(event, bool(logging.get("includeExecutionData"))),
        "previous_event_id": str(event.get("previousEventId", int(event["id"]) - 1)),
        "event_timestamp": str(milliseconds),
        "execution_arn": execution["executionArn"],
    }
    digest = hashlib.sha256(str(execution["executionArn"]).encode()).hexdigest()[:8]
    stream = f"states/{machine['name']}/{started:%Y-%m-%d-%H-%M}/{digest}"
    for destination in destinations:
        arn = str(destination["cloudWatchLogsLogGroup"]["logGroupArn"])
        group = arn.split(":log-group:", 1)[-1].removesuffix(":*")
        ministack_adapter.put_log_events(group, stream, [(milliseconds, json.dumps(line))])


def _wanted(kind: str, level: str) -> bool:
    if level == "FATAL":
        return kind in _FATAL
    return level == "ALL" or (level == "ERROR" and kind.endswith(_ERRORS))


def _details(event: Mapping[str, Any], with_data: bool) -> dict[str, Any]:
    found: Mapping[str, Any] = next(
        (value for name, value in event.items() if name.endswith("EventDetails")), {}
    )
    return {name: value for name, value in found.items() if with_data or name not in _DATA}
