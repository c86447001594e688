"""What every kind of endpoint has, and what those on machines have besides.

Knows nothing of the single kinds, nor of CDK.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from infra.settings.base import SettingsModel, setting
from infra.settings.engine import Engine
from infra.settings.exclusions import Exclusion, exclusion
from infra.settings.infrastructure import EndpointMetrics, Vpc

_ISOLATED = exclusion(
    "isolated-endpoints",
    refuses="interface endpoints for isolated containers",
    why="Network isolation cuts containers off from every network: nothing would use what is billed.",
    change="no interface_endpoints, or network_isolation: false",
)
exclusion(
    "download-timeout",
    refuses="a download timeout outside 60 to 3600 s",
    why="ModelDataDownloadTimeoutInSeconds goes from 60 to 3600.",
    change="a number from 60 up to 3600",
    bound="endpoint.model_download_timeout_seconds",
)
exclusion(
    "startup-timeout",
    refuses="a start-up timeout outside 60 to 3600 s",
    why="ContainerStartupHealthCheckTimeoutInSeconds goes from 60 to 3600.",
    change="a number from 60 up to 3600",
    bound="endpoint.startup_timeout_seconds",
)
exclusion(
    "routing-kv-aware",
    refuses="routing KV_AWARE",
    why="CloudFormation has no such RoutingStrategy; it exists in the API only.",
    change="least_outstanding, prefix_aware or random",
    bound="endpoint.routing",
)


class EndpointBase(SettingsModel):
    """What every kind has."""

    foreign: ClassVar[dict[str, Exclusion]] = {}
    """Keys of other kinds that SageMaker excludes here."""

    kind: str
    engine: Engine = setting("What runs inside the container.", {"kind": "vllm"})
    monitoring: EndpointMetrics = setting("The endpoint's own metrics.", {}, default=EndpointMetrics())
    model_download_timeout_seconds: int | None = setting(
        "Time to fetch the model from S3; left out, from `model.size_gb`, or 600.",
        1800,
        ge=60,
        le=3600,
        default=None,
    )
    startup_timeout_seconds: int | None = setting(
        "Time until /ping first answers 200; left out, from `model.size_gb`, or 600.",
        1800,
        ge=60,
        le=3600,
        default=None,
    )

    @model_validator(mode="before")
    @classmethod
    def _no_key_of_another_kind(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if refused := cls.foreign.get(key):
                raise refused.refusal(
                    key, what=f"There is no '{key}' with kind {values['kind']}.", example=None
                )
        return values


class InstanceEndpoint(EndpointBase):
    """Kinds that run on machines of ours."""

    network_isolation: bool = setting(
        "Cut the container off from every network; the model still arrives from S3.", True, default=True
    )
    vpc: Vpc | None = setting("A network of its own.", {"cidr": "10.40.0.0/22"}, default=None)
    routing: Literal["least_outstanding", "prefix_aware", "random"] = setting(
        "Which machine gets a request: the least busy, the one that knows its beginning, or any.",
        "least_outstanding",
        default="least_outstanding",
    )

    @model_validator(mode="after")
    def _endpoints_are_reached(self) -> Self:
        if self.vpc and self.vpc.interface_endpoints and self.network_isolation:
            raise _ISOLATED.refusal(
                "vpc",
                "interface_endpoints",
                what="Isolated containers reach no interface endpoint.",
                example=[],
            )
        return self
