"""How large a machine is: processors, memory and accelerators by instance type.

Only inference components are placed by size; everything else takes an instance whole. Sizes follow from the
family and the size word; source: the instance type pages of Amazon EC2.
"""

from __future__ import annotations

from typing import NamedTuple

from local.sagemaker.errors import invalid

_CPUS = {"medium": 1, "large": 2, "xlarge": 4}
_MEMORY_PER_CPU = {
    "t2": 4, "t3": 4, "m4": 4, "m5": 4, "m5d": 4, "m6i": 4, "m7i": 4, "c4": 2, "c5": 2, "c6i": 2, "c7i": 2,
    "c6g": 2, "c7g": 2, "m6g": 4, "r5": 8, "r6i": 8, "r7i": 8, "g4dn": 4, "g5": 4, "g6": 4, "g6e": 8,
    "g7e": 8, "p4d": 12, "p4de": 12, "p5": 10, "p5e": 10, "p5en": 10, "inf2": 4, "trn1": 4,
}  # fmt: skip
_GPUS_OF_G = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}
_ACCELERATORS = {
    "inf2": {"xlarge": 1, "8xlarge": 1, "24xlarge": 6, "48xlarge": 12},
    "trn1": {"2xlarge": 1, "32xlarge": 16},
}


class ComputeResources(NamedTuple):
    """Processors, memory (MiB) and accelerator devices: of a machine, or needed of one."""

    cpus: float
    memory: float
    accelerators: float

    def plus(self, other: ComputeResources) -> ComputeResources:
        """The sum."""
        return ComputeResources(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def holds(self, other: ComputeResources) -> bool:
        """Whether the other fits into this one."""
        return all(theirs <= mine for mine, theirs in zip(self, other, strict=True))


def compute_resources_of(instance_type: str) -> ComputeResources:
    """The size of `ml.<family>.<size>`; raises AwsApiError for a family whose size is not known here."""
    _, family, word = instance_type.split(".")
    if family not in _MEMORY_PER_CPU:
        raise invalid(f"The laptop cloud does not know the size of {instance_type}.")
    cpus = _CPUS.get(word) or 4 * int(word.removesuffix("xlarge"))
    if family.startswith("p"):
        accelerators = 8
    elif family in _ACCELERATORS:
        accelerators = _ACCELERATORS[family].get(word, 0)
    else:
        accelerators = _GPUS_OF_G.get(word, 1) if family.startswith("g") else 0
    return ComputeResources(cpus, cpus * _MEMORY_PER_CPU[family] * 1024, accelerators)


def instances_needed(copies: list[ComputeResources], machine: ComputeResources) -> int | None:
    """How many machines hold all copies, largest first into the first that has room; None when one copy fits
    into no machine."""
    used: list[ComputeResources] = []
    for copy in sorted(copies, key=lambda each: (each.accelerators, each.memory, each.cpus), reverse=True):
        if not machine.holds(copy):
            return None
        for index, taken in enumerate(used):
            if machine.holds(taken.plus(copy)):
                used[index] = taken.plus(copy)
                break
        else:
            used.append(copy)
    return len(used)
