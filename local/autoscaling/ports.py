"""The services that Application Auto Scaling uses. The plug-in binds them to the emulator, tests to fakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

Alarm = Mapping[str, Any]


class ScalableResource(NamedTuple):
    """A resource that can be scaled: the bounds of its capacity, and the dimensions of its metrics."""

    min_capacity: int
    dimensions: Mapping[str, str]
    max_capacity: int | None = None


class ResourceBusyError(Exception):
    """The resource is changing already; a later try may succeed."""


class ScalableResources(Protocol):
    """The service whose capacity is scaled."""

    def scalable(self, resource_id: str, dimension: str) -> ScalableResource:
        """Find a resource.

        Args:
            resource_id: As `endpoint/<name>/variant/<name>`.
            dimension: As `sagemaker:variant:DesiredInstanceCount`.

        Raises:
            AwsApiError: ValidationException, when there is no such resource or it cannot be scaled.
        """

    def capacity(self, resource_id: str, dimension: str) -> int:
        """The desired capacity now, in instances, copies or provisioned concurrency.

        Args:
            resource_id: As in `scalable`.
            dimension: As in `scalable`.

        Raises:
            AwsApiError: As in `scalable`.
        """

    async def set_capacity(self, resource_id: str, dimension: str, capacity: int) -> None:
        """Change the capacity and return when it is reached.

        Args:
            resource_id: As in `scalable`.
            dimension: As in `scalable`.
            capacity: In instances, copies or provisioned concurrency.

        Raises:
            ResourceBusyError: The resource is changing already.
            AwsApiError: The service refused or could not reach the capacity; the message is its own.
        """


class AlarmService(Protocol):
    """CloudWatch, as far as scaling uses it. `put` and `remove` block: call them on a thread."""

    def all(self) -> Sequence[Alarm]:
        """Every metric alarm, in DescribeAlarms' shape."""

    def latest(self, alarm: Alarm) -> float | None:
        """The newest data point of an alarm's metric, in the metric's unit.

        Args:
            alarm: In DescribeAlarms' shape.

        Returns:
            None when the metric has no data in the alarm's window.
        """

    def put(self, alarm: Alarm) -> None:
        """Create or replace an alarm.

        Args:
            alarm: In PutMetricAlarm's shape.

        Raises:
            ValueError: CloudWatch refuses the alarm; the message is its own.
        """

    def remove(self, names: Sequence[str]) -> None:
        """Delete alarms; those that are gone are no error.

        Args:
            names: The alarms' names.
        """
