"""What an `ml.*` instance type name says about the machine: accelerator, burstable, local disk.

Derived from the family's letters, so that a new size of a known family needs no edit here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Accelerator = Literal["gpu", "neuron", "cpu"]

_GPU_PREFIXES = ("g", "p")
_NEURON_PREFIXES = ("inf", "trn")
_NVME_FAMILIES = frozenset(
    {"g4dn", "g5", "g6", "g6e", "g7", "g7e", "p4d", "p4de", "p5", "p5e", "p5en", "trn1", "trn1n", "trn2"}
)
# Accelerators of one machine and the memory of each in GB. Source: the EC2 instance type pages. Types that
# are not listed are not checked.
_DEVICES: dict[str, dict[str, tuple[int, int]]] = {
    "g5": {"xlarge": (1, 24), "2xlarge": (1, 24), "4xlarge": (1, 24), "8xlarge": (1, 24), "12xlarge": (4, 24)}
    | {"16xlarge": (1, 24), "24xlarge": (4, 24), "48xlarge": (8, 24)},
    "g6": {"xlarge": (1, 24), "2xlarge": (1, 24), "4xlarge": (1, 24), "8xlarge": (1, 24), "12xlarge": (4, 24)}
    | {"16xlarge": (1, 24), "24xlarge": (4, 24), "48xlarge": (8, 24)},
    "g6e": {
        "xlarge": (1, 48),
        "2xlarge": (1, 48),
        "4xlarge": (1, 48),
        "8xlarge": (1, 48),
        "12xlarge": (4, 48),
    }
    | {"16xlarge": (1, 48), "24xlarge": (4, 48), "48xlarge": (8, 48)},
    "g7e": {"2xlarge": (1, 96), "4xlarge": (1, 96), "8xlarge": (1, 96), "12xlarge": (2, 96)}
    | {"24xlarge": (4, 96), "48xlarge": (8, 96)},
    "p4d": {"24xlarge": (8, 40)},
    "p4de": {"24xlarge": (8, 80)},
    "p5": {"4xlarge": (1, 80), "48xlarge": (8, 80)},
    "p5e": {"48xlarge": (8, 141)},
    "p5en": {"48xlarge": (8, 141)},
    # Neuron: cores, two to a device, and half of the device's memory each.
    "inf2": {"xlarge": (2, 16), "8xlarge": (2, 16), "24xlarge": (12, 16), "48xlarge": (24, 16)},
    "trn1": {"2xlarge": (2, 16), "32xlarge": (32, 16)},
}


@dataclass(frozen=True)
class Devices:
    """Accelerators of one machine; GB of memory of each. For Neuron, cores."""

    count: int
    memory_gb: int


def devices(instance_type: str) -> Devices | None:
    """The accelerators of a machine; None where the type has none or is not known here."""
    _, name, size = instance_type.split(".")
    found = _DEVICES.get(name, {}).get(size)
    return Devices(*found) if found else None


def family(instance_type: str) -> str:
    """`g6e` of `ml.g6e.xlarge`."""
    return instance_type.split(".")[1]


def accelerator(instance_type: str) -> Accelerator:
    """Which engines the machine can run; families that are neither GPU nor Neuron compute on the CPU."""
    name = family(instance_type)
    if name.startswith(_NEURON_PREFIXES):
        return "neuron"
    return "gpu" if name.startswith(_GPU_PREFIXES) else "cpu"


def burstable(instance_type: str) -> bool:
    """T-family machines: CPU credits, and no autoscaling of endpoints."""
    name = family(instance_type)
    return name[0] == "t" and name[1].isdigit()  # t2, t3, t4g; not trn1


def has_instance_store(instance_type: str) -> bool:
    """Machines whose model storage is local NVMe.

    SageMaker refuses a KMS key and a volume size for them: the disk is encrypted by the hardware and wiped
    with the instance. Source: CreateEndpointConfig, `KmsKeyId`.
    """
    name = family(instance_type)
    return name in _NVME_FAMILIES or name.startswith("p6") or (name[0] in "cmr" and "d" in name[1:])
