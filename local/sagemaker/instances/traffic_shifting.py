"""How an update moves traffic: the steps of a deployment configuration, and baking under rollback alarms."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from local.sagemaker.ports import CloudServices
from local.sagemaker.records import EndpointConfigRecord, JsonObject, ModelRecord, WeightsAndCapacities

_ALARM_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class TrafficStep:
    """The new fleet takes `share` (0 to 1) of the traffic, then bakes for so many seconds. In a rolling
    update it has `instances` by then, and the old fleet gives up as many afterwards."""

    share: float
    bake_seconds: float
    instances: int | None = None


@dataclass(frozen=True)
class UpdatePlan:
    """An update, decided: where it goes and how. `sizes` holds (weight, instance count) by variant."""

    config: EndpointConfigRecord
    models: dict[str, ModelRecord]
    sizes: WeightsAndCapacities
    deployment_config: JsonObject
    steps: tuple[TrafficStep, ...]
    alarms: tuple[str, ...]
    termination_wait: float


ALL_AT_ONCE: JsonObject = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
        "TerminationWaitInSeconds": 0,
        "MaximumExecutionTimeoutInSeconds": 600,
    }
}


def traffic_steps(deployment_config: JsonObject, instance_count: int) -> tuple[TrafficStep, ...]:
    """The steps of a deployment policy; sizes given in instances are relative to `instance_count`."""
    if rolling := deployment_config.get("RollingUpdatePolicy"):
        return _rolling_steps(rolling, instance_count)
    policy = deployment_config["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    wait = float(policy["WaitIntervalInSeconds"])
    if policy["Type"] == "CANARY":
        return TrafficStep(_share(policy["CanarySize"], instance_count), wait), TrafficStep(1.0, wait)
    if policy["Type"] == "LINEAR":
        size = _share(policy["LinearStepSize"], instance_count)
        count = math.ceil(1 / size - 1e-9)  # the last step takes what is left
        shares = [size * index for index in range(1, count)] + [1.0]
        return tuple(TrafficStep(share, wait) for share in shares)
    return (TrafficStep(1.0, wait),)


def _rolling_steps(policy: JsonObject, instance_count: int) -> tuple[TrafficStep, ...]:
    batch = max(1, round(_share(policy["MaximumBatchSize"], instance_count) * instance_count))
    wait = float(policy["WaitIntervalInSeconds"])
    counts = [*range(batch, instance_count, batch), instance_count]
    return tuple(TrafficStep(count / instance_count, wait, count) for count in counts)


def _share(size: JsonObject, instance_count: int) -> float:
    if size["Type"] == "CAPACITY_PERCENT":
        return min(1.0, float(size["Value"]) / 100)
    return min(1.0, float(size["Value"]) / max(1, instance_count))


def roles(plan: UpdatePlan) -> set[str]:
    """The roles in whose name an update is made: those of its models, or the configuration's own."""
    own = plan.config.get("ExecutionRoleArn")
    return {model["ExecutionRoleArn"] for model in plan.models.values()} | ({own} if own else set())


def rollback_reason(alarms: Sequence[str]) -> str:
    """The failure reason of an update that alarms have ended."""
    return f"Auto rollback: alarm(s) {', '.join(alarms)} went into state ALARM."


async def bake(seconds: float, alarms: Sequence[str], cloud: CloudServices) -> list[str]:
    """Wait, watching the alarms; answers at once with those that go off, else an empty list at the end."""
    deadline = monotonic() + seconds
    while (remaining := deadline - monotonic()) > 0:
        if alarms and (tripped := await cloud.alarms_in_alarm(alarms)):
            return tripped
        await asyncio.sleep(min(_ALARM_POLL_SECONDS, remaining))
    return list(await cloud.alarms_in_alarm(alarms)) if alarms else []
