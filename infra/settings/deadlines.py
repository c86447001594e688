"""How long things may take: fetching a model, starting it, waiting for machines, a whole update.

The speeds are cautious assumptions and not measurements: a window that is too long costs nothing while the
start is fast, and one that is too short fails a release that nothing was wrong with. Knows nothing of CDK.
"""

from __future__ import annotations

import math

from infra.settings.endpoint import AnyEndpoint, ServerlessEndpoint
from infra.settings.exclusions import exclusion
from infra.settings.rollout import (
    AllAtOnceDeployment,
    CanaryDeployment,
    Deployment,
    LinearDeployment,
    RollingDeployment,
)

DEFAULT_SECONDS = 600
LONGEST_UPDATE_SECONDS = 28_800
_LEAST, MOST = 300, 3600
_FETCH_SECONDS_PER_GB = 10  # 100 MB/s from S3
_START_SECONDS_PER_GB = 15  # weights to the device, warm-up
_START_SECONDS = 300
# vLLM captures graphs and Neuron loads compiled ones: minutes on machines with few cores, whatever the size.
_ENGINE_START_SECONDS = {"vllm": 1800, "neuron": 1800}
_CAPACITY_WAIT_SECONDS = 1800  # where the service decides how long it looks for machines
_AROUND_AN_UPDATE_SECONDS = 600  # what SageMaker does itself, before and after the shift of the traffic

_UPDATE = exclusion(
    "update-deadline",
    refuses="a rollout that may take more than eight hours with its waits",
    why="SageMaker ends an update after 28,800 s, and takes one back that is still waiting for nothing bad.",
    change="a shorter bake_seconds, larger steps, or shorter timeouts",
)


def download_seconds(size_gb: float | None) -> int:
    """Time to allow for the model's way from S3, in seconds."""
    if size_gb is None:
        return DEFAULT_SECONDS
    return min(MOST, max(_LEAST, math.ceil(_LEAST + size_gb * _FETCH_SECONDS_PER_GB)))


def startup_seconds(size_gb: float | None, engine: str) -> int:
    """Time to allow for loading and warming up, in seconds."""
    least = _ENGINE_START_SECONDS.get(engine, 0)
    if size_gb is None:
        return max(least, DEFAULT_SECONDS)
    return min(MOST, max(least, math.ceil(_START_SECONDS + size_gb * _START_SECONDS_PER_GB)))


def update_seconds(endpoint: AnyEndpoint, start_seconds: int) -> int:
    """Longest time in which an update may end well: looking for machines, fetching and starting, every bake.

    `start_seconds` is what one machine has for fetching and starting the model. 0 for kinds without machines.
    """
    if isinstance(endpoint, ServerlessEndpoint):
        return 0
    rollout = endpoint.deployment
    wait = endpoint.instances.capacity_wait_seconds or _CAPACITY_WAIT_SECONDS
    if isinstance(rollout, RollingDeployment):  # each batch looks for machines and starts by itself
        batches = math.ceil(100 / rollout.batch_percent)
        return _AROUND_AN_UPDATE_SECONDS + batches * (wait + start_seconds + rollout.bake_seconds)
    return _AROUND_AN_UPDATE_SECONDS + wait + start_seconds + _bakes(rollout) * rollout.bake_seconds


def check_update(endpoint: AnyEndpoint, start_seconds: int) -> None:
    """A blue/green update has the time that it may take. Raises RuleError from the file's root."""
    if isinstance(endpoint, ServerlessEndpoint) or isinstance(endpoint.deployment, RollingDeployment):
        return
    needed = update_seconds(endpoint, start_seconds)
    if needed > LONGEST_UPDATE_SECONDS:
        bakes, over = _bakes(endpoint.deployment), needed - LONGEST_UPDATE_SECONDS
        fits = max(0, endpoint.deployment.bake_seconds - math.ceil(over / bakes))
        raise _UPDATE.refusal(
            "endpoint",
            "deployment",
            "bake_seconds",
            what=f"With {bakes} times {endpoint.deployment.bake_seconds} s an update may take {needed} s.",
            change=f"bake_seconds up to {fits}, larger steps, or shorter timeouts",
            example=fits,
        )


def _bakes(rollout: Deployment) -> int:
    """How often a rollout waits."""
    if isinstance(rollout, LinearDeployment):
        return math.ceil(100 / rollout.step_percent)
    return {AllAtOnceDeployment: 1, CanaryDeployment: 2}[type(rollout)]
