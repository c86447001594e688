"""Whether what serves is what was asked. Knows neither AWS nor the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from contracts import metrics
from contracts.serving_state import (
    Descriptions,
    TrippedAlarm,
    differences,
    is_rolled_back,
    rollback_message,
)
from lambdas.release.errors import RolledBackError, TopologyFailedError
from lambdas.runtime.metrics import MetricLine


class Serving(Protocol):
    """A serving stack and its endpoint."""

    def describe(self) -> Descriptions:
        """What the services say now."""

    def tripped_alarms(self, found: Descriptions) -> list[TrippedAlarm]:
        """The rollback alarms that were in ALARM since the latest update began."""


def check_serving(serving: Serving) -> None:
    """Compare what serves with the stack.

    Raises RolledBackError, with the alarm that caused it, where SageMaker took the update back, and
    TopologyFailedError where the right configuration serves another model or image.
    """
    found = serving.describe()
    wrong = differences(found)
    if not wrong:
        return
    if is_rolled_back(found):
        raise RolledBackError(rollback_message(found, serving.tripped_alarms(found)))
    raise TopologyFailedError(
        f"The endpoint serves otherwise than its stack asks: {'; '.join(map(str, wrong))}."
    )


@contextmanager
def count_rollbacks(endpoint_name: str) -> Iterator[None]:
    """Publish a metric, which an alarm watches, where the block ends in a RolledBackError."""
    try:
        yield
    except RolledBackError:
        line = MetricLine({metrics.DIM_ENDPOINT: endpoint_name})
        line.add({metrics.UPDATES_ROLLED_BACK: (1, "Count")}, [[metrics.DIM_ENDPOINT]])
        line.emit()
        raise
