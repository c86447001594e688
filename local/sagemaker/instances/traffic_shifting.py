"""How an update moves traffic: the steps of a deployment configuration, and baking under rollback alarms."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from local.sagemaker.instances.fleet import Sizes
from local.sagemaker.ports import Cloud
from local.sagemaker.store import Record

_ALARM_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Step:
    """The new fleet takes `share` (0 to 1) of the traffic, then bakes for so many seconds. In a rolling
    update it has `instances` by then, and the old fleet gives up as many afterwards."""

    share: float
    bake_seconds: float
    instances: int | None = None


@dataclass(frozen=True)
class Plan:
    """An update, decided: where it goes and how. `sizes` holds (weight, instance count) by variant."""

    config: Record
    models: dict[str, Record]
    sizes: Sizes
    deployment_config: Record
    steps: tuple[Step, ...]
    alarms: tuple[str, ...]
    termination_wait: float


ALL_AT_ONCE: Record = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
        "TerminationWaitInSeconds": 0,
        "MaximumExecutionTimeoutInSeconds": 600,
    }
}


def steps_of(deployment_config: Record, instance_count: int) -> tuple[Step, ...]:
    """The steps of a deployment policy; sizes given in instances are relative to `instance_count`."""
    if rolling := deployment_config.get("RollingUpdatePolicy"):
        return _rolling_steps(rolling, instance_count)
    policy = deployment_config["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    wait = float(policy["WaitIntervalInSeconds"])
    if policy["Type"] == "CANARY":
        return Step(_share(policy["CanarySize"], instance_count), wait), Step(1.0, wait)
    if policy["Type"] == "LINEAR":
        size = _share(policy["LinearStepSize"], instance_count)
        count = math.ceil(1 / size - 1e-9)  # the last step takes what is left
        shares = [size * index for index in range(1, count)] + [1.0]
        return tuple(Step(share, wait) for share in shares)
    return (Step(1.0, wait),)


def _rolling_steps(policy: Record, instance_count: int) -> tuple[Step, ...]:
    batch = max(1, round(_share(policy["MaximumBatchSize"], instance_count) * instance_count))
    wait = float(policy["WaitIntervalInSeconds"])
    counts = [*range(batch, instance_count, batch), instance_count]
    return tuple(Step(count / instance_count, wait, count) for count in counts)


def _share(size: Record, instance_count: int) -> float:
    if size["Type"] == "CAPACITY_PERCENT":
        return min(1.0, size["Value"] / 100)
    return min(1.0, size["Value"] / max(1, instance_count))


def tripped_reason(alarms: Sequence[str]) -> str:
    """The failure reason of an update that alarms have ended."""
    return f"Auto rollback: alarm(s) {', '.join(alarms)} went into state ALARM."


async def bake(seconds: float, alarms: Sequence[str], cloud: Cloud) -> list[str]:
    """Wait, watching the alarms; answers at once with those that go off, else an empty list at the end."""
    deadline = time.monotonic() + seconds
    while (remaining := deadline - time.monotonic()) > 0:
        if alarms and (tripped := await cloud.alarms_in_alarm(alarms)):
            return tripped
        await asyncio.sleep(min(_ALARM_POLL_SECONDS, remaining))
    return list(await cloud.alarms_in_alarm(alarms)) if alarms else []
