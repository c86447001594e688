"""Scalable targets, policies, scheduled actions and activities: records in the shapes that Describe answers.

Times are seconds since the epoch. Knows nothing of what a policy does.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from local.sagemaker.errors import AwsApiError
from local.sagemaker.records import JsonObject
from local.sagemaker.store import Identity

SERVICE = "application-autoscaling"
MAX_ACTIVITIES = 500
_KEY_FIELDS = ("ServiceNamespace", "ResourceId", "ScalableDimension")

TargetKey = tuple[str, str, str]


def key_of(record: JsonObject) -> TargetKey:
    """Which scalable target a request or record speaks of."""
    namespace, resource, dimension = (record[name] for name in _KEY_FIELDS)
    return namespace, resource, dimension


def described(key: TargetKey) -> str:
    """A target's key as the service's messages write it."""
    return f"service namespace: {key[0]}, resource ID: {key[1]}, scalable dimension: {key[2]}"


@dataclass
class ScalableTarget:
    """A scalable target with everything that hangs on it."""

    record: JsonObject
    policies: dict[str, JsonObject] = field(default_factory=dict)
    schedules: dict[str, JsonObject] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    cooldowns: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> TargetKey:
        """Namespace, resource and dimension."""
        return key_of(self.record)


class ScalingStore:
    """Every target by key, and the activities, newest first."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.targets: dict[TargetKey, ScalableTarget] = {}
        self.activities: list[JsonObject] = []

    def target(self, request: JsonObject) -> ScalableTarget:
        """The target of a request; raises the service's not-found error."""
        found = self.targets.get(key_of(request))
        if found is None:
            raise not_found(f"No scalable target found for {described(key_of(request))}")
        return found

    def by_arn(self, arn: str) -> ScalableTarget:
        """The target that an ARN names."""
        for target in self.targets.values():
            if target.record["ScalableTargetARN"] == arn:
                return target
        raise AwsApiError("ResourceNotFoundException", f"The specified resource {arn} doesn't exist.")

    def target_arn(self) -> str:
        """An ARN for a new target."""
        return self._arn(f"scalable-target/{uuid.uuid4().hex}")

    def policy_arn(self, key: TargetKey, name: str) -> str:
        """An ARN for a new policy."""
        return (
            f"arn:aws:autoscaling:{self.identity.region}:{self.identity.account}:scalingPolicy:"
            f"{uuid.uuid4()}:resource/{key[0]}/{key[1]}:policyName/{name}"
        )

    def schedule_arn(self, key: TargetKey, name: str) -> str:
        """An ARN for a new scheduled action."""
        return (
            f"arn:aws:autoscaling:{self.identity.region}:{self.identity.account}:scheduledAction:"
            f"{uuid.uuid4()}:resource/{key[0]}/{key[1]}:scheduledActionName/{name}"
        )

    def note(self, key: TargetKey, description: str, cause: str, **more: Any) -> JsonObject:
        """Begin an activity; the record may be changed until it has an EndTime."""
        activity = {
            "ActivityId": str(uuid.uuid4()),
            **dict(zip(_KEY_FIELDS, key, strict=True)),
            "Description": description,
            "Cause": cause,
            "StartTime": now(),
            "StatusCode": "InProgress",
            **more,
        }
        self.activities.insert(0, activity)
        del self.activities[MAX_ACTIVITIES:]
        return activity

    def policies(self) -> Iterator[tuple[ScalableTarget, JsonObject]]:
        """Every policy with its target."""
        for target in list(self.targets.values()):
            for policy in list(target.policies.values()):
                yield target, policy

    def dump(self) -> dict[str, Any]:
        """Everything, as JSON data."""
        return {"targets": [vars(t) for t in self.targets.values()], "activities": self.activities}

    def load(self, data: dict[str, Any]) -> None:
        """The inverse of `dump`. An activity that was under way when the cloud stopped has not ended well."""
        targets = [ScalableTarget(**each) for each in data.get("targets", [])]
        self.targets = {target.key: target for target in targets}
        self.activities = list(data.get("activities", []))
        for activity in self.activities:
            if activity["StatusCode"] == "InProgress":
                activity |= {"StatusCode": "Failed", "StatusMessage": "The laptop cloud was stopped."}
                activity["EndTime"] = activity["StartTime"]

    def _arn(self, rest: str) -> str:
        return f"arn:aws:{SERVICE}:{self.identity.region}:{self.identity.account}:{rest}"


def not_found(message: str) -> AwsApiError:
    """The service's error about a target, policy or action that is not there."""
    return AwsApiError("ObjectNotFoundException", message)


def now() -> float:
    """Seconds since the epoch, to the millisecond."""
    return round(time.time(), 3)
