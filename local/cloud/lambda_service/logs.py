"""A function's output on its way to CloudWatch: log lines, and metrics in the Embedded Metric Format.

Pure: `FunctionLog` is given where to send things. EMF specification:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LINE_LIMIT = 256 * 1024
_TAIL_BYTES = 4096

SendLogs = Callable[[str, str, Sequence[tuple[int, str]]], None]
SendMetrics = Callable[[str, Sequence[Mapping[str, Any]]], None]


@dataclass
class FunctionLog:
    """The log stream of one process. Lines are held back until `flush`."""

    group: str
    stream: str
    send_logs: SendLogs
    send_metrics: SendMetrics
    _held: list[tuple[int, str]] = field(default_factory=list)
    _tail: bytes = b""

    def write(self, line: str) -> None:
        """One line of output; an EMF line is also turned into metrics."""
        self._held.append((int(time.time() * 1000), line[:LINE_LIMIT]))
        self._tail = (self._tail + line.encode() + b"\n")[-_TAIL_BYTES:]
        for namespace, data in embedded_metrics(line):
            self.send_metrics(namespace, data)

    def flush(self) -> None:
        """Hand over what was held back."""
        if self._held:
            held, self._held = self._held, []
            self.send_logs(self.group, self.stream, held)

    def start(self, request_id: str, version: str) -> None:
        """An invocation begins."""
        self._tail = b""
        self.write(f"START RequestId: {request_id} Version: {version}")

    def tail(self) -> bytes:
        """The last 4 KiB since the invocation began, as `LogType=Tail` returns them."""
        return self._tail


def report(
    request_id: str, *, duration_ms: float, memory_mb: int, used_mb: int, init_ms: float | None
) -> str:
    """The REPORT line of a finished invocation."""
    line = (
        f"REPORT RequestId: {request_id}\tDuration: {duration_ms:.2f} ms\t"
        f"Billed Duration: {max(1, -int(-duration_ms // 1))} ms\tMemory Size: {memory_mb} MB\t"
        f"Max Memory Used: {used_mb} MB"
    )
    return line if init_ms is None else f"{line}\tInit Duration: {init_ms:.2f} ms"


def embedded_metrics(line: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """The metrics of an EMF line as `(namespace, MetricData)`; nothing for any other line.

    A dimension whose value is missing drops its dimension set, as CloudWatch does.
    """
    if not line.startswith("{") or '"_aws"' not in line:
        return []
    try:
        document = json.loads(line)
        directives = document["_aws"]["CloudWatchMetrics"]
        moment = document["_aws"]["Timestamp"] / 1000
        return [(entry["Namespace"], _data(entry, document, moment)) for entry in directives]
    except (ValueError, KeyError, TypeError):
        return []


def _data(directive: Mapping[str, Any], document: Mapping[str, Any], moment: float) -> list[dict[str, Any]]:
    data = []
    for names in directive.get("Dimensions") or [[]]:
        if not all(name in document for name in names):
            continue
        dimensions = [{"Name": name, "Value": str(document[name])} for name in names]
        for metric in directive["Metrics"]:
            value = document.get(metric["Name"])
            if value is None:
                continue
            datum = {
                "MetricName": metric["Name"],
                "Dimensions": dimensions,
                "Timestamp": moment,
                "Unit": metric.get("Unit", "None"),
            }
            data.append({**datum, "Values": value} if isinstance(value, list) else {**datum, "Value": value})
    return data
