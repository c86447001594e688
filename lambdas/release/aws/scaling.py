"""Application Auto Scaling of the endpoint's variants: who scales them, and when it may not.

The champion's target belongs to CloudFormation: it is held still around updates, and never taken away. The
challenger's is made as a copy of it, and goes before the variant does, since the service removes no variant
that is a scalable target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from contracts.routing import CHALLENGER, CHAMPION
from lambdas.release.aws.clients import code_of

_SERVICE = "sagemaker"
_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
_ALL = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
_CONFIGURATION = "TargetTrackingScalingPolicyConfiguration"


@dataclass(frozen=True)
class Bounds:
    """Between how many machines a variant is scaled."""

    least: int
    most: int


class EndpointScaling:
    """Scalable targets of one endpoint. Without a target of the champion every call does nothing."""

    def __init__(self, endpoint_name: str, autoscaling: Any) -> None:
        self._endpoint_name = endpoint_name
        self._autoscaling = autoscaling

    def bounds(self) -> Bounds | None:
        """The champion's bounds; None where its fleet does not scale."""
        target = self._target(CHAMPION)
        return Bounds(target["MinCapacity"], target["MaxCapacity"]) if target else None

    def hold(self) -> None:
        """Stop every scaling of the champion: during an update the service refuses to scale."""
        self._suspend(True)

    def held(self) -> bool:
        """Whether the champion is held still."""
        target = self._target(CHAMPION)
        return target is not None and target.get("SuspendedState") == dict.fromkeys(_ALL, True)

    def let_go(self) -> None:
        """Scale the champion again."""
        self._suspend(False)

    def follow_challenger(self) -> None:
        """Scale the challenger as the champion is scaled."""
        bounds = self.bounds()
        if bounds is None:
            return
        # A stage gives a challenger at most half of the traffic, as a rule; the cost cap counts on this.
        most = max(bounds.least, math.ceil(bounds.most / 2))
        self._autoscaling.register_scalable_target(
            **self._named(CHALLENGER), MinCapacity=bounds.least, MaxCapacity=most
        )
        for policy in self._policies(CHAMPION):
            self._autoscaling.put_scaling_policy(
                **self._named(CHALLENGER),
                PolicyName=f"{policy['PolicyName']}-{CHALLENGER}",
                PolicyType=policy["PolicyType"],
                **{_CONFIGURATION: policy[_CONFIGURATION]},
            )

    def leave_challenger(self) -> None:
        """Take the challenger's target away; its policies go with it. One that is gone is no error."""
        if self._target(CHALLENGER) is None:
            return
        try:
            self._autoscaling.deregister_scalable_target(**self._named(CHALLENGER))
        except ClientError as error:
            if code_of(error) != "ObjectNotFoundException":
                raise

    def _suspend(self, suspended: bool) -> None:
        target = self._target(CHAMPION)
        wanted = dict.fromkeys(_ALL, suspended)
        if target is None or target.get("SuspendedState", dict.fromkeys(_ALL, False)) == wanted:
            return
        self._autoscaling.register_scalable_target(**self._named(CHAMPION), SuspendedState=wanted)

    def _target(self, variant: str) -> dict[str, Any] | None:
        found = self._autoscaling.describe_scalable_targets(
            ServiceNamespace=_SERVICE, ResourceIds=[self._resource(variant)], ScalableDimension=_DIMENSION
        )["ScalableTargets"]
        return found[0] if found else None

    def _policies(self, variant: str) -> list[dict[str, Any]]:
        found = self._autoscaling.describe_scaling_policies(**self._named(variant))["ScalingPolicies"]
        return [policy for policy in found if policy["PolicyType"] == "TargetTrackingScaling"]

    def _named(self, variant: str) -> dict[str, str]:
        return {
            "ServiceNamespace": _SERVICE,
            "ResourceId": self._resource(variant),
            "ScalableDimension": _DIMENSION,
        }

    def _resource(self, variant: str) -> str:
        return f"endpoint/{self._endpoint_name}/variant/{variant}"


class FixedFleet:
    """In the place of `EndpointScaling` where the settings let no fleet scale."""

    def bounds(self) -> Bounds | None:
        """There are none."""
        return None

    def hold(self) -> None:
        """Nothing moves."""

    def held(self) -> bool:
        """There is nothing to hold."""
        return False

    def let_go(self) -> None:
        """Nothing moves."""

    def follow_challenger(self) -> None:
        """The challenger has its fixed number too."""

    def leave_challenger(self) -> None:
        """There is no target to take away."""
