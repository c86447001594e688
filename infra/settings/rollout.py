"""How an update reaches callers: all at once, by canary, in linear steps, or copy by copy.

Knows nothing of machines or CDK. Source of the bounds: the deployment guardrails of UpdateEndpoint.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infra.settings.base import SettingsModel, setting
from infra.settings.exclusions import exclusion

OWN_ALARMS = 3  # errors, first token, verdict: infra/constructs/rollback_alarms.py
_ALARMS = 10

exclusion(
    "canary-share",
    refuses="a canary above half of the capacity",
    why="SageMaker takes canaries of up to 50 %.",
    change="canary_percent up to 50",
    bound="endpoint.deployment.canary_percent",
)
exclusion(
    "linear-step",
    refuses="linear steps outside 10 to 50 % of the capacity",
    why="SageMaker takes linear steps of 10 to 50 %.",
    change="step_percent from 10 up to 50",
    bound="endpoint.deployment.step_percent",
)
exclusion(
    "rolling-batch",
    refuses="batches outside 5 to 50 % of the copies",
    why="SageMaker takes rolling batches of 5 to 50 %.",
    change="batch_percent from 5 up to 50",
    bound="endpoint.deployment.batch_percent",
)
exclusion(
    "bake-time",
    refuses="a bake time above one hour",
    why="SageMaker waits 3600 s at most.",
    change="bake_seconds up to 3600",
    bound="endpoint.deployment.bake_seconds",
)
exclusion(
    "rollback-alarm-count",
    refuses=f"more than {_ALARMS - OWN_ALARMS} rollback alarms beside our own {OWN_ALARMS}",
    why=f"SageMaker takes {_ALARMS} rollback alarms.",
    change="a composite alarm over the others",
    bound="endpoint.deployment.alarms",
)
_BAKE = "Time between two steps of the traffic, in which an alarm rolls the update back."


class AllAtOnceDeployment(SettingsModel):
    """A whole second fleet takes all traffic when it is healthy."""

    kind: Literal["all_at_once"] = setting("Shift all traffic in one step.", "all_at_once")
    bake_seconds: int = setting("Time the old fleet stays after the shift.", 60, ge=0, le=3600, default=0)


class GradualDeployment(SettingsModel):
    """What the kinds that alarms watch have in common."""

    kind: str

    alarms: list[str] = setting(
        "Names of further alarms that roll an update back.",
        ["checkout-errors"],
        max_length=_ALARMS - OWN_ALARMS,
        default=[],
    )

    minimum_failures: int = setting(
        "Failed requests in a minute below which the alarm on errors stays silent, whatever share they are; "
        "with 0 it watches the bare share, without an expression.",
        5,
        ge=0,
        le=10_000,
        default=5,
    )

    @property
    def _percent(self) -> int:
        """What is asked for as the first step, in percent of the capacity."""
        raise NotImplementedError

    def first_share(self, least: int) -> float:
        """Share of the traffic that the new version gets first, 0 to 1: what a fault is diluted by.

        `least` machines or copies there are at least, and none is split: of two, a tenth is one.
        """
        return max(self._percent / 100, 1 / max(1, least))


class CanaryDeployment(GradualDeployment):
    """A share of the traffic first; alarms during the bake time roll back."""

    kind: Literal["canary"] = setting("Shift a share first, the rest after the bake time.", "canary")
    canary_percent: int = setting("Share of capacity in the first step.", 10, ge=1, le=50)
    bake_seconds: int = setting("Time between the first step and the rest.", 600, ge=60, le=3600)

    @property
    def _percent(self) -> int:
        return self.canary_percent


class LinearDeployment(GradualDeployment):
    """Equal steps with a bake time after each; alarms roll back."""

    kind: Literal["linear"] = setting("Shift in equal steps.", "linear")
    step_percent: int = setting("Share of capacity in each step.", 25, ge=10, le=50)
    bake_seconds: int = setting(_BAKE, 300, ge=60, le=3600)

    @property
    def _percent(self) -> int:
        return self.step_percent


class RollingDeployment(GradualDeployment):
    """Copies of an inference component are replaced batch by batch; alarms roll back."""

    kind: Literal["rolling"] = setting("Replace copies batch by batch.", "rolling")
    batch_percent: int = setting("Share of the copies in one batch.", 25, ge=5, le=50, default=25)
    bake_seconds: int = setting(_BAKE, 120, ge=0, le=3600, default=120)

    @property
    def _percent(self) -> int:
        return self.batch_percent


Deployment = Annotated[AllAtOnceDeployment | CanaryDeployment | LinearDeployment, Field(discriminator="kind")]
