"""Metrics, logs and events, from any thread."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ministack.services import cloudwatch as _cloudwatch
from ministack.services import cloudwatch_logs as _logs
from ministack.services import eventbridge as _events

from local.cloud.ministack_adapter.scope import account_scope


def put_metric_data(namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
    """Store CloudWatch metrics; `data` in the shape of PutMetricData's MetricData. AWS's own namespaces are
    accepted. Alarms see them at their next evaluation. May be called from any thread."""
    with account_scope():
        for datum in data:
            dimensions = {item["Name"]: item["Value"] for item in datum.get("Dimensions", [])}
            _cloudwatch._store_datum(
                namespace,
                datum["MetricName"],
                dimensions,
                _cloudwatch._parse_ts(datum.get("Timestamp")) or time.time(),
                datum.get("Unit", "None"),
                datum.get("Value"),
                datum.get("Values"),
                datum.get("Counts"),
                datum.get("StatisticValues"),
            )


def log_group_exists(group: str) -> bool:
    """Whether there is a log group of this name."""
    with account_scope():
        return group in _logs._log_groups


def put_log_events(group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
    """Append `(milliseconds since the epoch, message)` to a log stream; group and stream are created when
    missing. May be called from any thread."""
    with account_scope():
        if group not in _logs._log_groups:
            _logs._create_log_group({"logGroupName": group})
        if stream not in _logs._log_groups[group]["streams"]:
            _logs._create_log_stream({"logGroupName": group, "logStreamName": stream})
        entries = [{"timestamp": moment, "message": message} for moment, message in events]
        _logs._put_log_events({"logGroupName": group, "logStreamName": stream, "logEvents": entries})


def emit_event(
    source: str, detail_type: str, detail: Mapping[str, Any], resources: Sequence[str] = ()
) -> None:
    """Put an event of an AWS service (`aws.sagemaker` …) on the default event bus."""
    entry = {
        "Source": source,
        "DetailType": detail_type,
        "Detail": json.dumps(detail),
        "Resources": list(resources),
    }
    with account_scope():
        _events._put_events({"Entries": [entry]}, allow_aws_source=True)
