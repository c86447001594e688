"""Keeps the emulator's logs, executions and event log within `local.cloud.retention`'s bounds.

The emulator itself keeps all of them for ever.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Any

from ministack.services import cloudwatch_logs as _logs
from ministack.services import eventbridge as _events
from ministack.services import stepfunctions as _states

from local.cloud.retention import MAX_EVENTS_PER_LOG_GROUP, surplus_events, surplus_executions

_EVENTS_BETWEEN_CHECKS = MAX_EVENTS_PER_LOG_GROUP // 10


def bound_event_log() -> None:
    """The emulator notes every event that passes a bus and never reads the notes: none is kept."""
    _events._events_log_list = lambda: deque(maxlen=0)


def bound_logs() -> None:
    """Drop a log group's oldest events, and the streams that have none left, once it has too many. The
    emulator's second copy of each event, for GetLogRecord, is made again when a query answers with it."""
    put = _logs._put_log_events
    appended: Counter[str] = Counter()
    lock = threading.Lock()

    def put_log_events(data: dict[str, Any]) -> tuple[Any, ...]:
        reply: tuple[Any, ...] = put(data)
        group = str(data.get("logGroupName"))
        _forget_second_copies(group, str(data.get("logStreamName")), len(data.get("logEvents", [])))
        with lock:
            appended[group] += len(data.get("logEvents", []))
            if appended[group] >= _EVENTS_BETWEEN_CHECKS:
                del appended[group]
                _drop_surplus_events(group, newest_stream=str(data.get("logStreamName")))
        return reply

    _logs._put_log_events = put_log_events


def _forget_second_copies(group: str, stream: str, newest: int) -> None:
    found = (_logs._log_groups.get(group) or {"streams": {}})["streams"].get(stream)
    for event in found["events"][-newest:] if found and newest else ():
        _logs._log_records.pop(event["eventId"], None)


def _drop_surplus_events(group: str, newest_stream: str) -> None:
    found = _logs._log_groups.get(group)
    if found is None:
        return
    with _logs._log_events_lock:
        streams = {name: stream["events"] for name, stream in list(found["streams"].items())}
        for name, count in surplus_events(streams).items():
            dropped, kept = streams[name][:count], streams[name][count:]
            found["streams"][name]["events"] = kept
            for event in dropped:
                _logs._log_records.pop(event.get("eventId"), None)
            if kept:
                found["streams"][name]["firstEventTimestamp"] = kept[0]["timestamp"]
            elif name != newest_stream:
                del found["streams"][name]


def bound_executions() -> None:
    """Drop the oldest finished executions of a state machine when one of its executions ends."""
    emit = _states._emit_execution_status_event

    def emit_and_drop(execution: dict[str, Any]) -> None:
        emit(execution)
        if execution["status"] != "RUNNING":
            for arn in surplus_executions(list(_states._executions.values())):
                _states._executions.pop(arn, None)

    _states._emit_execution_status_event = emit_and_drop
