"""What surrounds a container: the endpoint's metrics, copies of its traffic, a network of its own.

Knows nothing of engines, machines or CDK.
"""

from __future__ import annotations

from typing import Literal

from infra.settings.base import SettingsModel, setting
from infra.settings.exclusions import exclusion

exclusion(
    "metrics-frequency",
    refuses="a publishing frequency that SageMaker does not have",
    why="MetricPublishFrequencyInSeconds is one of 10, 30, 60, 120, 180, 240, 300.",
    change="one of those",
    bound="endpoint.monitoring.publish_seconds",
)


class EndpointMetrics(SettingsModel):
    """The endpoint's own metrics. Detailed observability scrapes the container's /metrics and is billed."""

    publish_seconds: Literal[10, 30, 60, 120, 180, 240, 300] = setting(
        "How often SageMaker publishes utilisation metrics.", 60, default=60
    )
    detailed_observability: bool = setting(
        "Scrape the container's /metrics into CloudWatch (PromQL only).", False, default=False
    )


class DataCapture(SettingsModel):
    """Copies of requests and answers, unmasked, in the records bucket."""

    percent: int = setting("Share of the requests that are copied.", 10, ge=1, le=100)


class Vpc(SettingsModel):
    """A network of its own for the containers, without a way to the internet."""

    cidr: str = setting("Address range.", "10.40.0.0/22", pattern=r"^\d{1,3}(\.\d{1,3}){3}/(1[6-9]|2[0-6])$")
    availability_zones: list[str] = setting(
        "Zones by name; two or more, so that one may fail.",
        ["us-east-1a", "us-east-1b"],
        min_length=2,
        max_length=4,
    )
    interface_endpoints: list[Literal["logs", "monitoring", "kms", "sts", "sagemaker.runtime"]] = setting(
        "Services that containers reach inside the network, beside S3.",
        ["logs", "monitoring"],
        default=[],
    )
