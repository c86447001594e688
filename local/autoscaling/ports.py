"""What Application Auto Scaling needs of the rest of the cloud. The plug-in binds it, tests fake it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

Alarm = Mapping[str, Any]


class Scalable(NamedTuple):
    """Something that can be scaled: what it may go down and up to, and the metrics' dimensions of it."""

    least: int
    dimensions: Mapping[str, str]
    most: int | None = None


class Busy(Exception):
    """What is to be scaled is changing already: a later try may succeed."""


class Fleets(Protocol):
    """The service whose capacity is scaled."""

    def scalable(self, resource_id: str, dimension: str) -> Scalable:
        """What a resource id names; raises ApiError (ValidationException) when there is no such thing."""

    def capacity(self, resource_id: str, dimension: str) -> int:
        """The desired capacity now; raises ApiError like `scalable`."""

    async def set_capacity(self, resource_id: str, dimension: str, capacity: int) -> None:
        """Change it and return when it is so. Raises Busy, or ApiError with the service's reason."""


class Alarms(Protocol):
    """CloudWatch, as far as scaling uses it. `put` and `remove` block: call them on a thread."""

    def all(self) -> Sequence[Alarm]:
        """Every metric alarm, in DescribeAlarms' shape."""

    def latest(self, alarm: Alarm) -> float | None:
        """The newest data point that the alarm looks at, None without any."""

    def put(self, alarm: Alarm) -> None:
        """Create or replace an alarm, in PutMetricAlarm's shape."""

    def remove(self, names: Sequence[str]) -> None:
        """Delete alarms; those that are gone are no error."""
