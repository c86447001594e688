"""Follows one request from the API to the container, by the lines that each of them logged.

    python -m operations trace --env prod --id 6f1c0a3e-…          # `x-request-id` of the reply
    python -m operations trace --env prod --id 4bf92f3577b34da6a3ce929d0e0e4736
    python -m operations trace --env prod --id … --hours 48 --json

Reads the log groups of the API's stack and of the endpoint's containers, and changes nothing. Spans need not
be sent anywhere for it; a request that was sampled has the same trace id where they were sent.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from operations.diagnosis.container_log import log_groups
from operations.inventory import environment_stacks, stack_resources
from operations.progress import CommandError
from operations.target import Target, open_target, run

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_ID = re.compile(r"[A-Za-z0-9_.:=-]{1,128}")
_HOURS = 24
_MOST_LINES = 200
_SHOWN = (
    *("event", "message", "method", "path", "status", "variant", "model_version", "failure", "error_type"),
    *(
        "latency_ms",
        "duration_ms",
        "queue_ms",
        "prefill_ms",
        "decode_ms",
        "finish_reason",
        "completion_tokens",
    ),
)
"""Fields of a line that are shown, in this order; `--json` has all."""


@dataclass(frozen=True)
class LogLine:
    """One line of one of the groups. `source` is `api` or `container`."""

    at: datetime
    source: str
    group: str
    fields: dict[str, Any]


def trace_lines(target: Target, id: str, hours: float = _HOURS) -> list[LogLine]:
    """The lines of a request or trace in time's order. Raises CommandError where there are none."""
    if not _ID.fullmatch(id):
        raise CommandError(f"'{id}' is no request id and no trace id")
    groups = list(_groups(target))
    since = datetime.now(UTC) - timedelta(hours=hours)
    lines = _lines(target, groups, id, since)
    traces = {str(line.fields["trace_id"]) for line in lines if "trace_id" in line.fields} - {id}
    requests = {str(line.fields["request_id"]) for line in lines if "request_id" in line.fields} - {id}
    # The API's own line knows the request alone.
    for other in requests if _TRACE_ID.fullmatch(id) else traces:
        lines += [line for line in _lines(target, groups, other, since) if line not in lines]
    if not lines:
        raise CommandError(f"no line of the last {hours:g} hours has the id '{id}'")
    return sorted(lines, key=lambda line: line.at)[:_MOST_LINES]


def screen(lines: Sequence[LogLine]) -> str:
    """One line each: when, who, and what it says."""
    shown = []
    for line in lines:
        told = [f"{name}={line.fields[name]}" for name in _SHOWN if line.fields.get(name) is not None]
        shown.append(f"{line.at:%H:%M:%S.%f}"[:-3] + f"  {line.source:<9}  {'  '.join(told)}")
    traces = sorted({str(line.fields["trace_id"]) for line in lines if "trace_id" in line.fields})
    return "\n".join([*(f"trace {trace}" for trace in traces), *shown])


def _groups(target: Target) -> Iterator[tuple[str, str]]:
    """Source and name of each log group; of the first region, whose API it is."""
    cloudformation = target.client("cloudformation")
    for stack in environment_stacks(target):
        if stack.part == "gateway" and stack.region == target.region:
            for resource in stack_resources(cloudformation, stack.name):
                if resource["ResourceType"] == "AWS::Logs::LogGroup":
                    yield "api", resource["PhysicalResourceId"]
    for group in log_groups(target.settings.endpoint_name, target.settings.component_names):
        yield "container", group


def _lines(target: Target, groups: Sequence[tuple[str, str]], id: str, since: datetime) -> list[LogLine]:
    pages = target.client("logs").get_paginator("filter_log_events")
    found = []
    for source, group in groups:
        asked = {
            "logGroupName": group,
            "filterPattern": f'"{id}"',
            "startTime": int(since.timestamp() * 1000),
        }
        try:
            events = [event for page in pages.paginate(**asked) for event in page["events"]]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                continue  # nothing was logged there yet
            raise
        for event in events:
            fields = _fields(event["message"])
            if fields is not None and "_aws" not in fields:  # metrics are lines of their own
                found.append(
                    LogLine(datetime.fromtimestamp(event["timestamp"] / 1000, UTC), source, group, fields)
                )
    return found


def _fields(message: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(message)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m operations trace", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True, help="name of the settings file")
    parser.add_argument("--id", required=True, help="request id (`x-request-id`) or trace id")
    parser.add_argument("--hours", type=float, default=_HOURS, help="how far to look back")
    parser.add_argument("--json", action="store_true", help="whole lines, as one JSON list")
    options = parser.parse_args(arguments)

    def work() -> int:
        lines = trace_lines(open_target(options.env), options.id, options.hours)
        if options.json:
            whole = [{"at": line.at.isoformat(), "log_group": line.group, **line.fields} for line in lines]
            print(json.dumps(whole, indent=2))
        else:
            print(screen(lines))
        return 0

    return run(work)
