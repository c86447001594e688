"""What the service refuses although the request is well-formed: one function per rule.

The tests of this module are the refusal table. Where AWS's words are not published they are ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from local.autoscaling.ports import ScalableResource
from local.autoscaling.store import ScalableTarget
from local.sagemaker.errors import AwsApiError, invalid
from local.sagemaker.records import JsonObject

NAMESPACE = "sagemaker"
MAX_POLICIES = 50
MAX_STEPS = 20
MAX_SCHEDULES = 200
MAX_TAGS = 50
_PERCENT = "PercentChangeInCapacity"


def check_namespace(request: JsonObject) -> None:
    """Only SageMaker's resources are scaled on a laptop."""
    if request["ServiceNamespace"] != NAMESPACE:
        raise invalid(f"The laptop cloud scales only the service namespace {NAMESPACE}.")
    dimension = request.get("ScalableDimension", f"{NAMESPACE}:")
    if not dimension.startswith(f"{NAMESPACE}:"):
        raise invalid(f"Unsupported service namespace, resource type or scalable dimension: {dimension}")


def check_bounds(min_capacity: int | None, max_capacity: int | None, scalable: ScalableResource) -> None:
    """Capacity limits that make sense together and that the scaled resource can take."""
    if min_capacity is None or max_capacity is None:
        raise invalid(
            "Both minimum capacity and maximum capacity are required to register a scalable target."
        )
    if min_capacity < 0 or max_capacity < 0:
        raise invalid("Minimum capacity and maximum capacity cannot be negative.")
    if min_capacity > max_capacity:
        raise invalid("Maximum capacity cannot be less than minimum capacity.")
    if scalable.max_capacity is not None and max_capacity > scalable.max_capacity:
        raise invalid(
            f"Maximum capacity must be at most {scalable.max_capacity}, the variant's MaxConcurrency."
        )
    if min_capacity < scalable.min_capacity:
        raise invalid(
            f"Minimum capacity must be at least {scalable.min_capacity} for this scalable target: a "
            "real-time variant scales to zero only with inference components."
        )


def check_new_tags(known: ScalableTarget | None, request: JsonObject) -> None:
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
        raise AwsApiError("TooManyTagsException", f"A resource can have at most {MAX_TAGS} tags.")


def check_policy(request: JsonObject, target: ScalableTarget) -> str:
    """A policy has exactly the configuration of its type, which this answers."""
    known = target.policies.get(request["PolicyName"])
    kind = request.get("PolicyType") or (known["PolicyType"] if known else "StepScaling")
    if known and kind != known["PolicyType"]:
        raise invalid(f"The type of the policy {request['PolicyName']} cannot be changed.")
    if known is None and len(target.policies) >= MAX_POLICIES:
        raise AwsApiError("LimitExceededException", f"A scalable target can have {MAX_POLICIES} policies.")
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


def _check_tracking(configuration: JsonObject, name: str, target: ScalableTarget) -> None:
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


def _check_steps(configuration: JsonObject) -> None:
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


def _check_cooldowns(configuration: JsonObject, names: Iterable[str]) -> None:
    for name in names:
        if configuration.get(name, 0) < 0:
            raise invalid(f"{name} must not be negative.")


def check_schedule_action(action: Mapping[str, Any] | None, known: bool) -> None:
    """A scheduled action changes at least one limit to a valid value."""
    if action is None:
        if not known:
            raise invalid("A new scheduled action must have ScalableTargetAction.")
        return
    min_capacity, max_capacity = action.get("MinCapacity"), action.get("MaxCapacity")
    if min_capacity is None and max_capacity is None:
        raise invalid("ScalableTargetAction must have MinCapacity, MaxCapacity or both.")
    if any(value is not None and value < 0 for value in (min_capacity, max_capacity)):
        raise invalid("Minimum capacity and maximum capacity cannot be negative.")
    if min_capacity is not None and max_capacity is not None and min_capacity > max_capacity:
        raise invalid("Maximum capacity cannot be less than minimum capacity.")
