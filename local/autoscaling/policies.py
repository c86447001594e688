"""What a policy wants: arithmetic over a capacity and a metric. No clock, no store.

Sources: Application Auto Scaling user guide, "Step scaling policies" and "Target tracking scaling policies".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

DEFAULT_COOLDOWN_SECONDS = 300


def tracking_capacity(current: int, metric: float, target: float) -> int:
    """The capacity at which a metric that is an average per unit of capacity would meet its target."""
    # A hair of tolerance: 3 * 10 / 10 must not become 4 by way of a float.
    return math.ceil(current * metric / target - 1e-9)


def step_capacity(current: int, metric: float, threshold: float, policy: Mapping[str, Any]) -> int | None:
    """The capacity that a step policy's matching step gives; None when no step covers the metric."""
    step = _step(metric - threshold, policy.get("StepAdjustments", []))
    if step is None:
        return None
    adjustment = step["ScalingAdjustment"]
    if policy["AdjustmentType"] == "ExactCapacity":
        return int(adjustment)
    if policy["AdjustmentType"] == "ChangeInCapacity":
        return current + int(adjustment)
    return current + _percent(current, adjustment, policy.get("MinAdjustmentMagnitude", 0))


def _step(difference: float, steps: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The step whose interval the difference to the threshold falls into. Above the threshold the lower bound
    belongs to a step, below it the upper bound."""
    for step in steps:
        low = step.get("MetricIntervalLowerBound", -math.inf)
        high = step.get("MetricIntervalUpperBound", math.inf)
        inside = low <= difference < high if difference >= 0 else low < difference <= high
        if inside:
            return step
    return None


def _percent(current: int, percent: float, magnitude: int) -> int:
    change = current * percent / 100
    # Larger than 1 is rounded down, between 0 and 1 up to 1; below zero the same with the sign turned.
    whole = math.floor(abs(change)) if abs(change) > 1 else math.ceil(abs(change))
    return int(math.copysign(max(whole, magnitude), percent)) if change else 0


def cooldown_of(policy: Mapping[str, Any], *, out: bool) -> float:
    """Seconds that an activity of a policy keeps others of its direction away."""
    tracking = policy.get("TargetTrackingScalingPolicyConfiguration")
    if tracking is not None:
        name = "ScaleOutCooldown" if out else "ScaleInCooldown"
        return float(tracking.get(name, DEFAULT_COOLDOWN_SECONDS))
    return float(policy["StepScalingPolicyConfiguration"].get("Cooldown", DEFAULT_COOLDOWN_SECONDS))
