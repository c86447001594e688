"""What the service refuses although the request is well-formed: one function per rule.

The tests of this module are the refusal table. Where AWS's words are not published they are ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from local.autoscaling.ports import Scalable
from local.autoscaling.store import Target
from local.sagemaker.errors import ApiError, invalid
from local.sagemaker.store import Record

NAMESPACE = "sagemaker"
MAX_POLICIES = 50
MAX_STEPS = 20
MAX_SCHEDULES = 200
MAX_TAGS = 50
_PERCENT = "PercentChangeInCapacity"


def check_namespace(request: Record) -> None:
    """Only SageMaker's things are scaled on a laptop."""
    if request["ServiceNamespace"] != NAMESPACE:
        raise invalid(f"The laptop cloud scales only the service namespace {NAMESPACE}.")
    dimension = request.get("ScalableDimension", f"{NAMESPACE}:")
    if not dimension.startswith(f"{NAMESPACE}:"):
        raise invalid(f"Unsupported service namespace, resource type or scalable dimension: {dimension}")


def check_bounds(least: int | None, most: int | None, scalable: Scalable) -> None:
    """Capacity limits that make sense together and that the scaled thing can take."""
    if least is None or most is None:
        raise invalid(
            "Both minimum capacity and maximum capacity are required to register a scalable target."
        )
    if least < 0 or most < 0:
        raise invalid("Minimum capacity and maximum capacity cannot be negative.")
    if least > most:
        raise invalid("Maximum capacity cannot be less than minimum capacity.")
    if scalable.most is not None and most > scalable.most:
        raise invalid(f"Maximum capacity must be at most {scalable.most}, the variant's MaxConcurrency.")
    if least < scalable.least:
        raise invalid(
            f"Minimum capacity must be at least {scalable.least} for this scalable target: a real-time "
            "variant scales to zero only with inference components."
        )


def check_new_tags(known: Target | None, request: Record) -> None:
    """Tags are given when a target is registered first."""
    if known is not None and request.get("Tags"):
        raise invalid(
            "The scalable target that you tried to tag already exists. To update tags on an existing "
            "scalable target, use the TagResource API."
        )
    check_tags(request.get("Tags", {}))


def check_tags(tags: Mapping[str, str]) -> None:
    """At most fifty, none of AWS's own."""
    if any(name.lower().startswith("aws:") for name in tags):
        raise invalid("Tag keys that start with 'aws:' are reserved for use by AWS.")
    if len(tags) > MAX_TAGS:
        raise ApiError("TooManyTagsException", f"A resource can have at most {MAX_TAGS} tags.")


def check_policy(request: Record, target: Target) -> str:
    """A policy has exactly the configuration of its type, which this answers."""
    known = target.policies.get(request["PolicyName"])
    kind = request.get("PolicyType") or (known["PolicyType"] if known else "StepScaling")
    if known and kind != known["PolicyType"]:
        raise invalid(f"The type of the policy {request['PolicyName']} cannot be changed.")
    if known is None and len(target.policies) >= MAX_POLICIES:
        raise ApiError("LimitExceededException", f"A scalable target can have {MAX_POLICIES} policies.")
    if kind == "PredictiveScaling":
        raise invalid("Predictive scaling is not supported for the service namespace sagemaker.")
    needed = f"{kind}PolicyConfiguration"
    for name in ("StepScalingPolicyConfiguration", "TargetTrackingScalingPolicyConfiguration"):
        if (name in request) != (name == needed):
            must = "must" if name == needed else "must not"
            raise invalid(f"A policy of type {kind} {must} have {name}.")
    if kind == "StepScaling":
        _check_steps(request[needed])
    else:
        _check_tracking(request[needed], request["PolicyName"], target)
    return kind


def _check_tracking(configuration: Record, name: str, target: Target) -> None:
    if configuration["TargetValue"] <= 0:
        raise invalid("TargetValue must be greater than 0.")
    _check_cooldowns(configuration, ("ScaleOutCooldown", "ScaleInCooldown"))
    specifications = ("PredefinedMetricSpecification", "CustomizedMetricSpecification")
    for other, policy in target.policies.items():
        theirs = policy.get("TargetTrackingScalingPolicyConfiguration", {})
        same = any(each in theirs and theirs[each] == configuration.get(each) for each in specifications)
        if other != name and same:
            raise invalid(
                "Only one TargetTrackingScaling policy for a given metric specification is allowed."
            )


def _check_steps(configuration: Record) -> None:
    if "AdjustmentType" not in configuration or not configuration.get("StepAdjustments"):
        raise invalid("A step scaling policy must have AdjustmentType and StepAdjustments.")
    if "MinAdjustmentMagnitude" in configuration and configuration["AdjustmentType"] != _PERCENT:
        raise invalid(f"MinAdjustmentMagnitude is only valid with the adjustment type {_PERCENT}.")
    _check_cooldowns(configuration, ("Cooldown",))
    steps = configuration["StepAdjustments"]
    if len(steps) > MAX_STEPS:
        raise invalid(f"A step scaling policy can have at most {MAX_STEPS} step adjustments.")
    if configuration["AdjustmentType"] == "ExactCapacity" and any(s["ScalingAdjustment"] < 0 for s in steps):
        raise invalid("ScalingAdjustment must not be negative with the adjustment type ExactCapacity.")
    low, high = float("-inf"), float("inf")
    spans = sorted(
        (step.get("MetricIntervalLowerBound", low), step.get("MetricIntervalUpperBound", high))
        for step in steps
    )
    if any(start >= end for start, end in spans):
        raise invalid("A step's MetricIntervalLowerBound must be less than its MetricIntervalUpperBound.")
    for (_, end), (start, _next) in itertools.pairwise(spans):
        if start < end:
            raise invalid("The intervals of step adjustments must not overlap.")
        if start > end:
            raise invalid("There must be no gap between the intervals of step adjustments.")


def _check_cooldowns(configuration: Record, names: Iterable[str]) -> None:
    for name in names:
        if configuration.get(name, 0) < 0:
            raise invalid(f"{name} must not be negative.")


def check_schedule_action(action: Mapping[str, Any] | None, known: bool) -> None:
    """A scheduled action changes at least one limit, and not to nonsense."""
    if action is None:
        if not known:
            raise invalid("A new scheduled action must have ScalableTargetAction.")
        return
    least, most = action.get("MinCapacity"), action.get("MaxCapacity")
    if least is None and most is None:
        raise invalid("ScalableTargetAction must have MinCapacity, MaxCapacity or both.")
    if any(value is not None and value < 0 for value in (least, most)):
        raise invalid("Minimum capacity and maximum capacity cannot be negative.")
    if least is not None and most is not None and least > most:
        raise invalid("Maximum capacity cannot be less than minimum capacity.")
