"""What an `ml.*` instance type name says about the machine: accelerator, burstable, local disk.

Derived from the family's letters, so that a new size of a known family needs no edit here.
"""

from __future__ import annotations

from typing import Literal

Accelerator = Literal["gpu", "neuron", "cpu"]

_GPU_PREFIXES = ("g", "p")
_NEURON_PREFIXES = ("inf", "trn")
_NVME_FAMILIES = frozenset(
    {"g4dn", "g5", "g6", "g6e", "g7", "g7e", "p4d", "p4de", "p5", "p5e", "p5en", "trn1", "trn1n", "trn2"}
)


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
