"""Rules about places: which region is one, what SageMaker offers there, which zones belong to it.

Each check takes the path of the key to change from the file's root and raises RuleError. What is where stands
in instance_offers.yaml. Knows nothing of CDK.
"""

from __future__ import annotations

from collections.abc import Sequence

from infra.settings import instance_offers
from infra.settings.components import ScaleToZeroEndpoint
from infra.settings.endpoint import AnyEndpoint, ServerlessEndpoint
from infra.settings.exclusions import exclusion
from infra.settings.images import image_table
from infra.settings.instance_offers import Use

NO_ZERO_INSTANCES = frozenset({"eu-west-3"})
"""Regions whose SageMaker refuses `MinInstanceCount: 0` ("Min instance count needs to be greater than 0"), as
a public report of August 2026 has it. AWS publishes no list."""

_REGION = exclusion(
    "region-unknown",
    refuses="a region that AWS does not have, or in which SageMaker offers no machine",
    why="Everything of an environment lives in one region, and a mistyped one exists nowhere.",
    change="a region's code, such as us-east-1",
)
_OFFERED = exclusion(
    "instance-region",
    refuses="an instance type in a region that does not offer it",
    why="SageMaker offers a family of machines in some regions only, and not for every use.",
    change="another region or instance type; infra/settings/instance_offers.yaml says what is where",
)
_ZERO = exclusion(
    "zero-region",
    refuses="kind scale_to_zero with no machine at least, in a region that keeps one",
    why="SageMaker refuses MinInstanceCount 0 there.",
    change="another region, or instances.min: 1",
)
_ZONES = exclusion(
    "zones-region",
    refuses="a network with zones of another region",
    why="A network and its zones belong to one region.",
    change="zones of the environment's region",
)


def check_region(path: Sequence[str], region: str) -> None:
    """The region exists."""
    known = instance_offers.known_regions()
    if region in known or any(region in accounts for accounts in image_table().registries.values()):
        return
    close = instance_offers.closest(region, known)
    hint = f" Did you mean '{close}'?" if close else ""
    raise _REGION.refusal(
        *path, what=f"The region '{region}' is unknown.{hint}", example=close or "us-east-1"
    )


def check_offered(path: Sequence[str], use: Use, instance_type: str, region: str) -> None:
    """The region offers the machine for this use."""
    offering = instance_offers.regions(use, instance_type)
    if offering is not None and region not in offering:
        raise _OFFERED.refusal(
            *path,
            what=f"{instance_type} is not offered for {use} in {region}.",
            change=f"another instance type, or one of the regions {', '.join(offering)}",
            example=_offered_instead(use, region, instance_type),
        )


def _offered_instead(use: Use, region: str, wanted: str) -> str:
    """A machine of the same size that the region has; any family of the same first letter, or a CPU one."""
    _, family, size = wanted.split(".")
    fitting = [
        name
        for name in sorted(instance_offers.known_types(use))
        if region in (instance_offers.regions(use, name) or ()) and name.endswith(f".{size}")
    ]
    alike = [name for name in fitting if name.split(".")[1][0] == family[0]]
    return next(iter([*reversed(alike), *fitting]), "ml.m5.xlarge")


def check_endpoint(endpoint: AnyEndpoint, region: str) -> None:
    """The endpoint's machines, its least number and its network fit the region."""
    if isinstance(endpoint, ServerlessEndpoint):
        return
    for place, name in enumerate(endpoint.instances.types):
        key = ("alternatives", str(place - 1)) if place else ("type",)
        check_offered(("endpoint", "instances", *key), "hosting", name, region)
    if (
        isinstance(endpoint, ScaleToZeroEndpoint)
        and not endpoint.instances.min
        and region in NO_ZERO_INSTANCES
    ):
        raise _ZERO.refusal(
            "endpoint", "instances", "min", what=f"An endpoint in {region} keeps a machine.", example=1
        )
    for zone in endpoint.vpc.availability_zones if endpoint.vpc else ():
        if not zone.startswith(region):
            raise _ZONES.refusal(
                "endpoint",
                "vpc",
                "availability_zones",
                what=f"The zone {zone} is not in {region}.",
                example=[f"{region}a", f"{region}b"],
            )
