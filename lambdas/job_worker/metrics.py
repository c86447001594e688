"""Counts jobs and batches that are over, by how they ended."""

from __future__ import annotations

from contracts import metrics
from contracts.tasks import Task
from lambdas.runtime.metrics import MetricLine


class CountEnds:
    """One metric line per task."""

    def __init__(self, endpoint_name: str) -> None:
        self._endpoint_name = endpoint_name

    def __call__(self, task: Task) -> None:
        """Count a task by its last status."""
        line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name, metrics.DIM_OUTCOME: task.status})
        sets = [[metrics.DIM_ENDPOINT], [metrics.DIM_ENDPOINT, metrics.DIM_OUTCOME]]
        line.add({metrics.JOBS: (1, "Count")}, sets)
        line.emit(task=task.id)
