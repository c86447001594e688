"""The endpoint: machines, timeouts, how an update rolls out, and the service's rules between them.

`Endpoint` is a union told apart by `kind`; each kind brings the keys it needs and no others. Knows
nothing of CDK. Sources of the rules: the SageMaker API reference and the endpoint quotas.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.settings import instances
from infra.settings.base import RuleError, SettingsModel, setting
from infra.settings.engine import Engine

_ENGINE_NEEDS: dict[str, tuple[tuple[instances.Accelerator, ...], str, str]] = {
    "vllm": (("gpu",), "an NVIDIA GPU type (g5, g6, g6e, p4d, p5 …)", "ml.g6e.xlarge"),
    "neuron": (("neuron",), "an Inferentia2 or Trainium type (inf2, trn1, trn2)", "ml.inf2.xlarge"),
    "transformers": (("cpu", "gpu"), "a CPU or GPU type (c7i, m7i, g5 …)", "ml.c7i.2xlarge"),
}
_COMPUTES_ON = {"gpu": "NVIDIA GPUs", "neuron": "Neuron cores", "cpu": "its CPU"}


class Instances(SettingsModel):
    """Machines behind the champion: type and count."""

    type: str = setting(
        "SageMaker instance type.", "ml.g6e.xlarge", pattern=r"^ml\.[a-z][a-z0-9-]*\.[a-z0-9]+$"
    )
    min: int = setting("Machines at first and at least.", 2, ge=1, le=100)
    max: int = setting(
        "Machines at most, however far the fleet is scaled; the cost cap is computed here.", 4, ge=1, le=100
    )
    volume_gb: int | None = setting(
        "Size of the encrypted model volume; leave out where the machine has local NVMe.",
        64,
        ge=1,
        le=16_384,
        default=None,
    )

    @model_validator(mode="after")
    def _counts_and_volume(self) -> Self:
        if self.max < self.min:
            raise RuleError(
                "max",
                what=f"max {self.max} is below min {self.min}.",
                why="The fleet starts at min and may only grow to max.",
                change=f"a number from {self.min} upwards",
                example=self.min,
            )
        if self.max > self.min and instances.burstable(self.type):
            raise RuleError(
                "max",
                what=f"{self.type} cannot scale from {self.min} to {self.max}.",
                why="SageMaker does not autoscale burstable (t-family) machines.",
                change=f"max: {self.min}, or another instance type such as ml.c7i.large",
                example=self.min,
            )
        if self.volume_gb and instances.has_instance_store(self.type):
            raise RuleError(
                "volume_gb",
                what=f"{self.type} takes no volume size.",
                why="Models lie on its local NVMe disk, and SageMaker refuses VolumeSizeInGB there.",
                change="leave the key out",
                example=None,
            )
        return self


class AllAtOnce(SettingsModel):
    """A whole second fleet takes all traffic when it is healthy."""

    kind: Literal["all_at_once"] = setting("Shift all traffic in one step.", "all_at_once")
    bake_seconds: int = setting("Time the old fleet stays after the shift.", 60, ge=0, le=3600, default=0)


class Canary(SettingsModel):
    """A share of the traffic first; alarms during the bake time roll back."""

    kind: Literal["canary"] = setting("Shift a share first, the rest after the bake time.", "canary")
    canary_percent: int = setting("Share of capacity in the first step.", 10, ge=1, le=50)
    bake_seconds: int = setting("Time between the first step and the rest.", 600, ge=60, le=3600)


Deployment = Annotated[AllAtOnce | Canary, Field(discriminator="kind")]


class Monitoring(SettingsModel):
    """The endpoint's own metrics. Detailed observability scrapes the container's /metrics and is billed."""

    publish_seconds: Literal[10, 30, 60, 120, 180, 240, 300] = setting(
        "How often SageMaker publishes utilisation metrics.", 60, default=60
    )
    detailed_observability: bool = setting(
        "Scrape the container's /metrics into CloudWatch (PromQL only).", False, default=False
    )


class RealtimeEndpoint(SettingsModel):
    """Instances that are always there."""

    kind: Literal["realtime"] = setting("Instances that are always there.", "realtime")
    engine: Engine = setting("What runs inside the container.", {"kind": "vllm"})
    instances: Instances = setting("Machines behind the champion.", {"type": "ml.g6e.xlarge"})
    deployment: Deployment = setting("How an update rolls out.", {"kind": "canary"})
    monitoring: Monitoring = setting("The endpoint's own metrics.", {}, default=Monitoring())
    model_download_timeout_seconds: int = setting(
        "Time to fetch the model from S3.", 1800, ge=60, le=3600, default=600
    )
    startup_timeout_seconds: int = setting(
        "Time until /ping first answers 200.", 1800, ge=60, le=3600, default=600
    )
    network_isolation: bool = setting(
        "Cut the container off from every network; the model still arrives from S3.", True, default=True
    )
    challenger_weight: float = setting(
        "Weight of the challenger when an A/B test starts, against the champion's 1.", 0.1, gt=0, default=0.1
    )
    shadow_percent: int = setting(
        "Share of requests mirrored to the challenger in the shadow phase.", 50, ge=1, le=100, default=50
    )

    @model_validator(mode="after")
    def _engine_fits_the_machine(self) -> Self:
        accelerators, allowed, example = _ENGINE_NEEDS[self.engine.kind]
        have = instances.accelerator(self.instances.type)
        if have not in accelerators:
            raise RuleError(
                "instances",
                "type",
                what=f"Engine '{self.engine.kind}' does not run on {self.instances.type}.",
                why=f"That machine computes on {_COMPUTES_ON[have]}.",
                change=allowed,
                example=example,
            )
        return self

    @model_validator(mode="after")
    def _canary_needs_two_machines(self) -> Self:
        if isinstance(self.deployment, Canary) and self.instances.min < 2:
            raise RuleError(
                "deployment",
                "kind",
                what="A canary deployment needs at least 2 instances.",
                why="The canary is a share of whole machines; one machine has no smaller share.",
                change="instances.min: 2, or deployment kind all_at_once",
                example="all_at_once",
            )
        return self


Endpoint = RealtimeEndpoint
"""Endpoint kinds; a further kind turns this into a union with `Field(discriminator="kind")`."""
