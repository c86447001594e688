"""Rules between sections: whether the endpoint can hold the model, and what else the endpoint's kind decides.

Each check raises RuleError with a path from the file's root. Knows nothing of CDK.
"""

from __future__ import annotations

import math

from infra.settings import instance_types
from infra.settings.components import ScaleToZeroEndpoint
from infra.settings.deadlines import MOST, download_seconds
from infra.settings.endpoint import AnyEndpoint, RealtimeEndpoint, ServerlessEndpoint
from infra.settings.exclusions import exclusion
from infra.settings.images import image_table

_FASTEST_SECONDS_PER_GB = 2  # 500 MB/s: below that a timeout cannot be meant
_WORKING_MEMORY = 1.3  # of the weights, on a CPU: activations, cache and the process itself
_NAME = 63

_TIMEOUT = exclusion(
    "timeout-below-model",
    refuses="a download timeout in which the model cannot arrive",
    why="A model arrives with 500 MB/s at best, and SageMaker waits 3600 s at most.",
    change="a longer timeout, or leave the key out",
)
_MEMORY = exclusion(
    "model-memory",
    refuses="a model that is larger than the devices' memory",
    why="Weights and the key-value cache share the memory of the devices that hold one copy.",
    change="more tensor_parallel, a larger instance type, or quantised weights",
)
_SERVERLESS_MEMORY = exclusion(
    "serverless-model",
    refuses="a model that does not fit into the serverless memory",
    why="A serverless container has 6144 MB at most, and needs a third more than the weights.",
    change="more memory_mb, a smaller or quantised model, or kind realtime",
)
_SOURCE = exclusion(
    "artefact-form",
    refuses="an archive as artefact, or a prefix for a serverless endpoint",
    why="Serverless endpoints take no uncompressed prefix, and the other kinds are given nothing else.",
    change="a prefix that ends in a slash; for kind serverless one .tar.gz",
)
_REGION = exclusion(
    "image-region",
    refuses="an image that AWS does not publish in the environment's region",
    why="SageMaker pulls images from the region's own registry.",
    change="another region, or an image of your own in your account",
)
_REFRESH = exclusion(
    "refresh-realtime",
    refuses="`refresh` with a kind other than realtime",
    why="The loop judges a challenger beside the champion, and only realtime endpoints have variants.",
    change="leave the section out, or kind realtime",
)
_TARGET = exclusion(
    "scaling-target",
    refuses="scaling on invocations without a target or a measurement",
    why="How many invocations a machine answers in a minute has to be measured.",
    change="scaling.target, a file in bench/capacity, or metric concurrent_requests",
)
_ENDPOINT_NAME = exclusion(
    "endpoint-name",
    refuses="an environment whose endpoint or component name exceeds 63 characters",
    why="SageMaker allows 63.",
    change="a shorter file name",
)
_PRODUCTION = exclusion(
    "production",
    refuses="`environment.production` without a web ACL, or with records or keys that are deleted",
    why="Callers depend on a production environment, and so do their keys and what is kept for them.",
    change="what the key asks for, or production: false",
)
exclusion(
    "body-size",
    refuses="request bodies above 5 MB",
    why="A function's event holds 6 MB, and the body is in it as JSON text beside headers and context.",
    change="a number up to 5000000",
    bound="gateway.max_body_bytes",
)


def check_production(web_acl: bool, records: str, access: str) -> None:
    """An environment that callers depend on has what keeps it, and them, from harm."""
    if not web_acl:
        raise _PRODUCTION.refusal("gateway", "waf", "enabled", what="There is no web ACL.", example=True)
    for key, removal in (("records", records), ("access", access)):
        if removal != "retain":
            raise _PRODUCTION.refusal(
                "environment", "removal", key, what=f"`cdk destroy` would delete {key}.", example="retain"
            )


def check_names(*names: str) -> None:
    """Every name that follows from the file's fits into SageMaker's limit."""
    for name in names:
        if len(name) > _NAME:
            raise _ENDPOINT_NAME.refusal(
                "name",
                what=f"The endpoint name '{name}' has {len(name)} characters.",
                change=f"a file name that is {len(name) - _NAME} characters shorter",
                example="prod",
            )


def check_source(source: str | None, endpoint: AnyEndpoint) -> None:
    """The artefact has the form that the kind takes."""
    archive = isinstance(endpoint, ServerlessEndpoint)
    if source and source.endswith(".tar.gz") is not archive:
        raise _SOURCE.refusal(
            "model",
            "source",
            what=f"Kind {endpoint.kind} does not take {source}.",
            example="s3://my-models/small/model.tar.gz" if archive else "s3://my-models/large/",
        )


def check_region(region: str, *images: tuple[tuple[str, ...], str]) -> None:
    """Every image, given with the path of its key, is published in the region."""
    table = image_table()
    for path, name in images:
        regions = table.regions(name)
        if regions is not None and region not in regions:
            raise _REGION.refusal(
                *path,
                what=f"The image '{name}' is not published in {region}.",
                change=f"one of the regions {', '.join(regions)}, or an image of your own in your account",
                example=name,
            )


def check_size(size_gb: float | None, endpoint: AnyEndpoint) -> None:
    """The model arrives in time and fits into memory."""
    if size_gb is None:
        return
    fastest = math.ceil(size_gb * _FASTEST_SECONDS_PER_GB)
    allowed = endpoint.model_download_timeout_seconds or MOST
    if fastest > allowed:
        raise _TIMEOUT.refusal(
            "endpoint",
            "model_download_timeout_seconds",
            what=f"{size_gb:g} GB do not arrive in {allowed} s.",
            change=f"a number from {fastest} up to {MOST}" if fastest <= MOST else "a smaller artefact",
            example=download_seconds(size_gb),
        )
    if isinstance(endpoint, ServerlessEndpoint):
        needed = size_gb * 1000 * _WORKING_MEMORY
        if needed > endpoint.memory_mb:
            raise _SERVERLESS_MEMORY.refusal(
                "endpoint", "memory_mb", what=f"{size_gb:g} GB need {needed:.0f} MB.", example=6144
            )
        return
    _check_devices(size_gb, endpoint)


def _check_devices(size_gb: float, endpoint: AnyEndpoint) -> None:
    if isinstance(endpoint, ServerlessEndpoint):
        return
    share = getattr(endpoint.engine, "gpu_memory_utilization", 1.0)
    copies = getattr(endpoint.engine, "tensor_parallel", 1)
    for name in endpoint.instances.types:
        devices = instance_types.devices(name)
        if devices and size_gb > devices.memory_gb * copies * share:
            raise _MEMORY.refusal(
                "endpoint",
                "instances",
                "type",
                what=f"{size_gb:g} GB do not fit into {copies} × {devices.memory_gb} GB of {name}.",
                example="ml.g6e.12xlarge",
            )


def check_refresh(wanted: bool, endpoint: AnyEndpoint) -> None:
    """The refresh loop has variants to work with."""
    if wanted and not isinstance(endpoint, RealtimeEndpoint):
        raise _REFRESH.refusal(
            "refresh", what=f"There is no refresh loop for kind {endpoint.kind}.", example=None
        )


def check_target(target: float | None, endpoint: AnyEndpoint) -> None:
    """What target tracking is to hold is known."""
    if target is None and isinstance(endpoint, RealtimeEndpoint | ScaleToZeroEndpoint):
        raise _TARGET.refusal(
            "endpoint",
            "scaling",
            "metric",
            what=f"No target is known for {endpoint.scaling.metric} on {endpoint.instances.type}.",
            example="concurrent_requests",
        )
