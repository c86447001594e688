"""A second region that answers while the first cannot: what differs there, and what it takes to exist.

Everything else is the environment's: the same model, engine and image. Knows nothing of CDK.
"""

from __future__ import annotations

from infra.settings import cross_section_rules, instance_offers
from infra.settings.base import RuleError, SettingsModel, setting
from infra.settings.capacity_rules import check_machines
from infra.settings.endpoint import AnyEndpoint, RealtimeEndpoint
from infra.settings.exclusions import exclusion
from infra.settings.images import image_table
from infra.settings.infrastructure import Vpc
from infra.settings.machines import Instances
from infra.settings.rollout import AllAtOnceDeployment
from infra.settings.texts import Region

FAILOVER = "failover"
"""What the second region's stacks are called after the environment's prefix."""
_OLD_FLEET_STAYS_SECONDS = 60
_BUCKET_NAME = 63

_SAME = exclusion(
    "failover-same-region",
    refuses="a failover into the environment's own region",
    why="What takes the first endpoint away would take the second one with it.",
    change="another region",
)
_KIND = exclusion(
    "failover-realtime",
    refuses="`failover` with a kind other than realtime",
    why="The fallback endpoint must stream, have running instances, and need no component name.",
    change="leave the section out, or kind realtime",
)
_IMAGE = exclusion(
    "failover-image",
    refuses="a failover into a region in which AWS does not publish the engine's image",
    why="SageMaker pulls images from the region's own registry.",
    change="another region, or an image of your own in your account",
)
_MACHINE = exclusion(
    "failover-machine",
    refuses="a failover into a region that does not host the instance type",
    why="SageMaker offers a family of machines in some regions only.",
    change="another region or instance type; infra/settings/instance_offers.yaml says what is where",
)
_ZONES = exclusion(
    "failover-network",
    refuses="`endpoint.vpc` without a `failover.vpc`, or with zones of another region",
    why="A network and its zones belong to one region, and the second endpoint is shut in as the first is.",
    change="failover.vpc with zones of that region",
)
_NAME = exclusion(
    "failover-bucket-name",
    refuses="an environment whose bucket of replicas would have a name above 63 characters",
    why="S3 allows 63, and the name must be known in both regions, so it holds account and region.",
    change="a shorter file name",
)


class Failover(SettingsModel):
    """The second region: where, with which machines, and where its first artefact is."""

    region: Region = setting("Region of the second endpoint.", "us-west-2")
    instances: Instances = setting(
        "Machines there; `min` of them wait all the time.", {"type": "ml.g6e.xlarge", "min": 1, "max": 4}
    )
    source: str | None = setting(
        "S3 prefix of the first artefact in a bucket of that region; left out, the deploy names it "
        "(parameter ChampionModelUri of the failover stack).",
        "s3://my-models-west/llama-3.1-8b-instruct/",
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+/$",
        form="an S3 prefix: s3://bucket/prefix/ with a slash at its end",
        default=None,
    )
    vpc: Vpc | None = setting(
        "A network for the containers there; asked for where `endpoint.vpc` is.",
        {"cidr": "10.41.0.0/22"},
        default=None,
    )

    def bucket_name(self, prefix: str, account: str) -> str:
        """Where artefacts are copied to there: named, so that the first region can name it."""
        return f"{prefix}-models-{account}-{self.region}"

    def endpoint(self, first: RealtimeEndpoint) -> RealtimeEndpoint:
        """The second endpoint: the first one's, on machines of its own, and with nothing to compare.

        Hardly anybody calls it, so a canary would bake on no traffic: the new fleet takes over once it is
        healthy. Copies of traffic and night schedules are the first one's matter.
        """
        return first.model_copy(
            update={
                "instances": self.instances,
                "vpc": self.vpc,
                "deployment": AllAtOnceDeployment(kind="all_at_once", bake_seconds=_OLD_FLEET_STAYS_SECONDS),
                "scaling": first.scaling.model_copy(update={"schedules": []}),
                "data_capture": None,
            }
        )


def check_failover(
    failover: Failover, region: str, endpoint: AnyEndpoint, size_gb: float | None, bucket: str
) -> None:
    """The second region can hold the endpoint. Raises RuleError with a path from the file's root."""
    if failover.region == region:
        raise _SAME.refusal("failover", "region", what=f"Both are {region}.", example="us-west-2")
    if not isinstance(endpoint, RealtimeEndpoint):
        raise _KIND.refusal("failover", what=f"There is no failover for kind {endpoint.kind}.", example=None)
    name = endpoint.engine.image
    regions = image_table().regions(name)
    if regions is not None and failover.region not in regions:
        raise _IMAGE.refusal(
            "failover",
            "region",
            what=f"The image '{name}' is not published in {failover.region}.",
            change=f"one of {', '.join(regions)}, or an image of your own in your account",
            example=regions[-1],
        )
    _check_machines(failover, endpoint, size_gb)
    _check_network(failover, endpoint)
    if len(bucket) > _BUCKET_NAME:
        raise _NAME.refusal(
            "failover", "region", what=f"'{bucket}' has {len(bucket)} characters.", example=failover.region
        )


def _check_machines(failover: Failover, endpoint: RealtimeEndpoint, size_gb: float | None) -> None:
    try:
        check_machines(endpoint.engine, failover.instances)
        cross_section_rules.check_size(size_gb, failover.endpoint(endpoint))
    except RuleError as error:
        inside = error.path[1:] if error.path[0] == "endpoint" else error.path
        raise RuleError(
            "failover",
            *inside,
            what=f"{error}",
            why="The second endpoint runs the first one's engine and model.",
            change=error.change,
            example=error.example,
            rule=error.rule,
        ) from None
    for place, machine in enumerate(failover.instances.types):
        regions = instance_offers.regions("hosting", machine)
        if regions is not None and failover.region not in regions:
            raise _MACHINE.refusal(
                "failover",
                "instances",
                "alternatives" if place else "type",
                what=f"{machine} is not hosted in {failover.region}.",
                change=f"another type, or one of the regions {', '.join(regions)}",
                example=[] if place else "ml.g5.xlarge",
            )


def _check_network(failover: Failover, endpoint: RealtimeEndpoint) -> None:
    if endpoint.vpc and failover.vpc is None:
        raise _ZONES.refusal(
            "failover",
            "vpc",
            what="The second endpoint would be outside any network of yours.",
            example={"cidr": "10.41.0.0/22", "availability_zones": [f"{failover.region}{z}" for z in "ab"]},
        )
    for zone in failover.vpc.availability_zones if failover.vpc else ():
        if not zone.startswith(failover.region):
            raise _ZONES.refusal(
                "failover",
                "vpc",
                "availability_zones",
                what=f"The zone {zone} is not in {failover.region}.",
                example=[f"{failover.region}{letter}" for letter in "ab"],
            )
