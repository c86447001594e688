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
        """The resource of an id; raises AwsApiError (ValidationException) when there is none."""

    def capacity(self, resource_id: str, dimension: str) -> int:
        """The desired capacity now; raises AwsApiError like `scalable`."""

    async def set_capacity(self, resource_id: str, dimension: str, capacity: int) -> None:
        """Change the capacity and return when it is reached. Raises ResourceBusyError or AwsApiError."""


class AlarmService(Protocol):
    """CloudWatch, as far as scaling uses it. `put` and `remove` block: call them on a thread."""

    def all(self) -> Sequence[Alarm]:
        """Every metric alarm, in DescribeAlarms' shape."""

    def latest(self, alarm: Alarm) -> float | None:
        """The newest data point that the alarm looks at, None without any."""

    def put(self, alarm: Alarm) -> None:
        """Create or replace an alarm, in PutMetricAlarm's shape."""

    def remove(self, names: Sequence[str]) -> None:
        """Delete alarms; those that are gone are no error."""
