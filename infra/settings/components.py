"""The kind `scale_to_zero`: copies of a model and adapters on it, on machines that may all go.

Knows nothing of the other kinds, nor of CDK. Source of the rules: CreateInferenceComponent.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from infra.settings import inapplicable_keys, instance_types
from infra.settings.base import SettingsModel, setting
from infra.settings.capacity_rules import SCHEDULE, check_machines
from infra.settings.endpoint_base import InstanceEndpoint
from infra.settings.exclusions import exclusion
from infra.settings.machines import IdleInstances
from infra.settings.rollout import RollingDeployment
from infra.settings.scaling import ScalingSettings

ARCHIVE_PATTERN = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+\.tar\.gz$"
ARCHIVE_FORM = "the S3 address of one archive, s3://bucket/….tar.gz"

_DEVICES_OF_COPY = exclusion(
    "copies-fit",
    refuses="more copies than the machines' accelerators can hold",
    why="A copy keeps its accelerators for itself; further copies would wait for capacity in vain.",
    change="fewer copies.max, or more instances.max",
)
_ADAPTERS = exclusion(
    "adapters-engine",
    refuses="adapters on vLLM for Neuron",
    why="A compiled Neuron model takes no adapter while it serves.",
    change="engine vllm or transformers",
)


class CopySettings(SettingsModel):
    """Copies of the model, and what each keeps for itself."""

    min: int = setting("Copies at least; 0 for none while nobody calls.", 0, ge=0, le=100, default=0)
    max: int = setting("Copies at most.", 4, ge=1, le=100, default=1)
    memory_mb: int = setting("Main memory of one copy.", 16_384, ge=128, le=2_097_152)
    accelerators: int = setting("GPUs or Neuron devices of one copy; 0 on CPUs.", 1, ge=0, le=64, default=0)
    cpu_cores: float | None = setting("CPU cores of one copy.", 4.0, gt=0, le=512, default=None)


class AdapterSettings(SettingsModel):
    """A LoRA adapter beside the base model, as an inference component of its own."""

    name: str = setting("Name that callers use.", "support", pattern=r"^[a-z][a-z0-9-]{0,30}$")
    source: str = setting(
        "The adapter's archive in S3.",
        "s3://my-models/adapters/support.tar.gz",
        pattern=ARCHIVE_PATTERN,
        form=ARCHIVE_FORM,
    )


class ScaleToZeroEndpoint(InstanceEndpoint):
    """Instances scale to zero while nobody calls; the first caller afterwards gets 503 with Retry-After."""

    foreign = {
        "challenger_weight": inapplicable_keys.COMPONENT_VARIANTS,
        "shadow_percent": inapplicable_keys.COMPONENT_VARIANTS,
    }

    kind: Literal["scale_to_zero"] = setting("Copies and machines that may all go.", "scale_to_zero")
    instances: IdleInstances = setting("Machines that hold the copies.", {"type": "ml.g6e.xlarge"})
    copies: CopySettings = setting("Copies of the model.", {"max": 4, "memory_mb": 16384})
    scaling: ScalingSettings = setting(
        "How the number of copies follows the load.", {}, default=ScalingSettings()
    )
    deployment: RollingDeployment = setting("How an update rolls out.", {"kind": "rolling"})
    adapters: list[AdapterSettings] = setting(
        "LoRA adapters on the base model.", [{"name": "support"}], default=[], max_length=50
    )

    @model_validator(mode="before")
    @classmethod
    def _copies_roll(cls, values: Any) -> Any:
        rollout = values.get("deployment") if isinstance(values, dict) else None
        kind = rollout.get("kind") if isinstance(rollout, dict) else None
        if kind in ("canary", "linear", "all_at_once"):
            raise inapplicable_keys.COMPONENT_ROLLOUT.refusal(
                "deployment", "kind", what=f"Copies do not roll out by '{kind}'.", example="rolling"
            )
        return values

    @model_validator(mode="after")
    def _rules(self) -> Self:
        check_machines(self.engine, self.instances)
        for schedule in self.scaling.schedules:
            if schedule.max > self.copies.max:
                raise SCHEDULE.refusal(
                    "scaling",
                    "schedules",
                    what=f"The schedule '{schedule.name}' goes above {self.copies.max} copies.",
                    example=[],
                )
        devices = instance_types.devices(self.instances.type)
        total = devices.count * self.instances.max if devices else None
        if total is not None and self.copies.accelerators * self.copies.max > total:
            raise _DEVICES_OF_COPY.refusal(
                "copies",
                "max",
                what=f"{self.copies.max} copies of {self.copies.accelerators} devices exceed {total}.",
                example=max(1, total // self.copies.accelerators),
            )
        if self.adapters and self.engine.kind == "neuron":
            raise _ADAPTERS.refusal("adapters", what="Engine 'neuron' takes no adapters.", example=None)
        return self
