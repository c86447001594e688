"""The machines behind an endpoint: type, alternatives when it is short, counts, volume, reservation.

Knows nothing of engines, scaling policies or CDK. Source of the rules: CreateEndpointConfig.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from infra.settings import instance_offers, instance_types
from infra.settings.base import SettingsModel, setting
from infra.settings.exclusions import exclusion
from infra.settings.instance_offers import Use

_TYPE = r"^ml\.[a-z][a-z0-9-]*\.[a-z0-9]+$"
InstanceType = Annotated[str, Field(pattern=_TYPE)]

UNKNOWN_TYPE = exclusion(
    "instance-type",
    refuses="an instance type that SageMaker does not have for this use",
    why="Its API takes only the types that it knows.",
    change="a type of SageMaker's for this use; infra/settings/instance_offers.yaml lists them",
)
_COUNTS = exclusion(
    "counts-in-order",
    refuses="`max` below `min`",
    why="The fleet starts at min and may only grow to max.",
    change="a max of at least min",
)
_BURSTABLE = exclusion(
    "burstable-scaling",
    refuses="a t-family machine whose number changes",
    why="SageMaker does not autoscale burstable (t-family) machines.",
    change="max equal to min, or another instance type such as ml.c7i.large",
)
_VOLUME = exclusion(
    "volume-on-nvme",
    refuses="`volume_gb` on a machine with local NVMe",
    why="Models are stored on its local NVMe disk, and SageMaker refuses VolumeSizeInGB there.",
    change="leave the key out",
)
_ALIKE = exclusion(
    "pool-storage",
    refuses="alternatives of which some have local NVMe and some a volume",
    why="One endpoint config has one KmsKeyId, which SageMaker refuses for NVMe and we ask of volumes.",
    change="alternatives that store models as the first type does",
)
_DISTINCT = exclusion(
    "pool-distinct",
    refuses="an instance type twice among the alternatives",
    why="A pool is one type at one priority.",
    change="each type once",
)
exclusion(
    "pool-size",
    refuses="more than four alternatives",
    why="SageMaker takes five instance pools: the preferred type and four more.",
    change="the four best alternatives",
    bound="endpoint.instances.alternatives",
)
_RESERVED = exclusion(
    "reservation-one-type",
    refuses="a capacity reservation with alternatives",
    why="A reservation holds one instance type, and SageMaker then starts machines nowhere else.",
    change="leave out the alternatives, or the reservation",
)
ZERO = exclusion(
    "zero-needs-components",
    refuses="`min: 0` on a realtime endpoint",
    why="Only inference components and asynchronous endpoints go down to no machine.",
    change="min: 1, or kind scale_to_zero",
)


def check_type(path: Sequence[str], use: Use, name: str) -> None:
    """SageMaker has the instance type for this use. Raises RuleError with the path of the key to change."""
    known = instance_offers.known_types(use)
    if name in known:
        return
    close = instance_offers.closest(name, known)
    hint = f" Did you mean '{close}'?" if close else ""
    raise UNKNOWN_TYPE.refusal(
        *path,
        what=f"SageMaker has no instance type '{name}' for {use}.{hint}",
        change=f"{close}, or another type" if close else "",
        example=close or "ml.g6.xlarge",
    )


class Machines(SettingsModel):
    """Type of the machines and what they may be replaced by."""

    type: InstanceType = setting("SageMaker instance type.", "ml.g6e.xlarge")
    alternatives: list[InstanceType] = setting(
        "Types to take, in this order, when the first has no capacity.",
        ["ml.g6e.2xlarge"],
        max_length=4,
        default=[],
    )
    volume_gb: int | None = setting(
        "Size of the encrypted model volume; leave out where the machine has local NVMe.",
        64,
        ge=1,
        le=16_384,
        default=None,
    )
    reservation: str | None = setting(
        "ARN of an ML capacity reservation that machines must come from.",
        "arn:aws:sagemaker:us-east-1:111122223333:training-plan/llm",
        pattern=r"^arn:aws[a-z-]*:sagemaker:[a-z0-9-]*:\d{12}:[a-z0-9-]{1,14}/.+$",
        default=None,
    )
    capacity_wait_seconds: int | None = setting(
        "How long to look for machines before a start or update fails; left out, the service decides.",
        1800,
        ge=300,
        le=3600,
        default=None,
    )

    @property
    def types(self) -> list[str]:
        """The types in order of preference."""
        return [self.type, *self.alternatives]

    @property
    def has_volume(self) -> bool:
        """Whether models are stored on a volume, and not on local NVMe."""
        return not instance_types.has_instance_store(self.type)

    @model_validator(mode="after")
    def _types_exist(self) -> Self:
        for place, name in enumerate(self.types):
            check_type(("alternatives", str(place - 1)) if place else ("type",), "hosting", name)
        return self

    @model_validator(mode="after")
    def _pools_are_alike(self) -> Self:
        if len(set(self.types)) != len(self.types):
            raise _DISTINCT.refusal(
                "alternatives",
                what=f"The types {', '.join(self.types)} name one twice.",
                example=[name for name in dict.fromkeys(self.alternatives) if name != self.type],
            )
        stored = [instance_types.has_instance_store(name) for name in self.types]
        if len(set(stored)) > 1:
            alike = [name for name, nvme in zip(self.types, stored, strict=True) if nvme == stored[0]]
            raise _ALIKE.refusal(
                "alternatives",
                what=f"Of {', '.join(self.types)} some keep models on NVMe and some on a volume.",
                example=alike[1:],
            )
        if self.reservation and self.alternatives:
            raise _RESERVED.refusal(
                "alternatives",
                what=f"The reservation cannot hold {', '.join(self.alternatives)}.",
                example=None,
            )
        if self.volume_gb and not self.has_volume:
            raise _VOLUME.refusal("volume_gb", what=f"{self.type} takes no volume size.", example=None)
        return self


class _Counted(Machines):
    """Machines between a least and a most number."""

    min: int
    max: int

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if self.max < self.min:
            raise _COUNTS.refusal(
                "max",
                what=f"max {self.max} is below min {self.min}.",
                change=f"a number from {self.min} upwards",
                example=self.min,
            )
        slow = [name for name in self.types if instance_types.burstable(name)]
        if self.max > self.min and slow:
            raise _BURSTABLE.refusal(
                "max",
                what=f"{slow[0]} cannot scale from {self.min} to {self.max}.",
                change=f"max: {self.min}, or another instance type such as ml.c7i.large",
                example=self.min,
            )
        return self


_MAX = "Machines at most, however far the fleet is scaled; the cost cap is computed here."


class Instances(_Counted):
    """Machines behind the champion: type and count."""

    min: int = setting("Machines at first and at least.", 2, ge=0, le=100)
    max: int = setting(_MAX, 4, ge=1, le=100)

    @model_validator(mode="after")
    def _one_stays(self) -> Self:
        if self.min < 1:
            raise ZERO.refusal("min", what="A realtime endpoint keeps at least one machine.", example=1)
        return self


class IdleInstances(_Counted):
    """Machines that may all go while nobody calls."""

    min: int = setting("Machines at least; 0 for none while nobody calls.", 0, ge=0, le=100, default=0)
    max: int = setting(_MAX, 4, ge=1, le=100)
