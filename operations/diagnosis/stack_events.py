"""What CloudFormation says about its latest attempt: the first failures of a stack and of its nested ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_BEGINNINGS = {"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"}
_CANCELLED = ("resource creation cancelled", "resource update cancelled", "resource deletion cancelled")
_NESTED = "AWS::CloudFormation::Stack"
_MAX_PAGES = 20  # of 100 events


@dataclass(frozen=True)
class FailedResource:
    """A resource whose create, update or delete failed, in CloudFormation's words."""

    stack: str
    logical_id: str
    type: str
    status: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Attempt:
    """The latest operation on a stack: when it began, how it stands, its failures from the first on.

    `models` are the properties, as JSON, of the SageMaker models that it made.
    """

    stack: str
    status: str
    started_at: datetime | None
    failures: tuple[FailedResource, ...]
    models: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it did not do what was asked."""
        return "ROLLBACK" in self.status or self.status.endswith("_FAILED")


def latest_attempt(cloudformation: Any, stack: Mapping[str, Any]) -> Attempt:
    """The latest operation on a stack that DescribeStacks described."""
    name, stack_id = stack["StackName"], stack["StackId"]
    failures: list[FailedResource] = []
    models: list[str] = []
    started_at = None
    for event in _events(cloudformation, stack_id):  # newest first
        own = event.get("PhysicalResourceId") == stack_id
        if own and event["ResourceStatus"] in _BEGINNINGS:
            started_at = event["Timestamp"]
            break
        if event["ResourceType"] == "AWS::SageMaker::Model":
            models.append(event.get("ResourceProperties", ""))
        reason = event.get("ResourceStatusReason", "")
        if own or not event["ResourceStatus"].endswith("_FAILED"):
            continue
        if any(word in reason.lower() for word in _CANCELLED):
            continue
        failed = FailedResource(
            name,
            event["LogicalResourceId"],
            event["ResourceType"],
            event["ResourceStatus"],
            reason,
            event["Timestamp"],
        )
        failures.append(failed)
        if failed.type == _NESTED and (inner := event.get("PhysicalResourceId")):
            failures += _nested(cloudformation, inner)
    ordered = sorted(failures, key=lambda failure: failure.at)
    return Attempt(name, stack["StackStatus"], started_at, tuple(ordered), tuple(models))


def _nested(cloudformation: Any, stack_id: str) -> tuple[FailedResource, ...]:
    found = cloudformation.describe_stacks(StackName=stack_id)["Stacks"]  # by its id even when it is deleted
    return latest_attempt(cloudformation, found[0]).failures if found else ()


def _events(cloudformation: Any, stack_id: str) -> Iterator[dict[str, Any]]:
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id)
    for number, page in enumerate(pages):
        if number == _MAX_PAGES:
            return
        yield from page["StackEvents"]
