"""Metrics that a training job prints: its metric definitions' regular expressions, applied to its lines."""

from __future__ import annotations

import re
from typing import Any

from local.sagemaker.records import JsonObject
from local.sagemaker.store import now

NAMESPACE = "/aws/sagemaker/TrainingJobs"


class TrainingMetrics:
    """The measurements of one job; `final` keeps the latest of each metric."""

    def __init__(self, job_name: str, definitions: list[JsonObject]) -> None:
        self._job_name = job_name
        self._patterns = [(definition["Name"], re.compile(definition["Regex"])) for definition in definitions]
        self._latest: dict[str, tuple[float, float]] = {}
        self._unpublished: list[dict[str, Any]] = []

    def take(self, line: str) -> None:
        """Look for measurements in a line."""
        for name, pattern in self._patterns:
            match = pattern.search(line)
            value = _number(match.group(1)) if match and pattern.groups else None
            if value is not None:
                moment = now()
                self._latest[name] = (value, moment)
                self._unpublished.append(
                    {
                        "MetricName": name,
                        "Dimensions": [{"Name": "TrainingJobName", "Value": self._job_name}],
                        "Value": value,
                        "Timestamp": moment,
                    }
                )

    def drain(self) -> list[dict[str, Any]]:
        """What has not been published yet, in PutMetricData's shape."""
        data, self._unpublished = self._unpublished, []
        return data

    def final(self) -> list[JsonObject]:
        """FinalMetricDataList."""
        return [
            {"MetricName": name, "Value": value, "Timestamp": moment}
            for name, (value, moment) in self._latest.items()
        ]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None  # a pattern may match a word; the service leaves such a line out, too
