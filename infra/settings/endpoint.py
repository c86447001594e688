"""The endpoint: a union of kinds told apart by `kind`; each brings the keys it needs and no others.

A key of another kind is refused with SageMaker's reason where there is one. Rules between endpoint and model
are in cross_section_rules.py. Knows nothing of CDK. Sources: SageMaker's API reference and developer guide.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.settings import inapplicable_keys
from infra.settings.base import setting
from infra.settings.capacity_rules import SCHEDULE_ZERO, check_canary, check_machines, check_schedules
from infra.settings.components import ScaleToZeroEndpoint
from infra.settings.endpoint_base import EndpointBase, InstanceEndpoint
from infra.settings.exclusions import exclusion
from infra.settings.infrastructure import DataCapture
from infra.settings.machines import IdleInstances, Instances
from infra.settings.rollout import Deployment
from infra.settings.scaling import BacklogScalingSettings, ProvisionedConcurrencyScaling, ScalingSettings
from infra.settings.texts import EmailAddress

_SERVERLESS_TIMEOUT = exclusion(
    "serverless-timeout",
    refuses="requests above 60 s on a serverless endpoint",
    why="SageMaker ends an answer that is not streamed after 60 s.",
    change="request_timeout_seconds up to 60",
)
_SERVERLESS_ENGINE = exclusion(
    "serverless-cpu",
    refuses="a serverless endpoint with a GPU or Neuron engine",
    why="Serverless endpoints have CPUs only.",
    change="engine transformers, or kind scale_to_zero",
)
_PROVISIONED = exclusion(
    "serverless-provisioned",
    refuses="more provisioned than greatest concurrency",
    why="ProvisionedConcurrency is a part of MaxConcurrency.",
    change="a number up to max_concurrency",
)
_READY = exclusion(
    "serverless-ready-scaling",
    refuses="`provisioned_scaling` without `provisioned_concurrency`",
    why="What is scaled is provisioned concurrency, and SageMaker scales none that is not there.",
    change="a provisioned_concurrency, or no provisioned_scaling",
)
_READY_BOUNDS = exclusion(
    "serverless-ready-bounds",
    refuses="provisioned concurrency that scales above max_concurrency, below its least, or to none",
    why="ProvisionedConcurrency goes from 1 up to MaxConcurrency.",
    change="a max from provisioned_concurrency up to max_concurrency, and schedules within it",
)
exclusion(
    "serverless-memory",
    refuses="a serverless endpoint above 6 GB",
    why="Serverless memory comes in steps of 1024 MB up to 6144 MB.",
    change="1024, 2048, 3072, 4096, 5120 or 6144",
    bound="endpoint.memory_mb",
)
exclusion(
    "serverless-concurrency",
    refuses="a serverless concurrency above 200",
    why="MaxConcurrency goes from 1 to 200.",
    change="a number from 1 up to 200",
    bound="endpoint.max_concurrency",
)
exclusion(
    "async-concurrency",
    refuses="more than 1,000 concurrent asynchronous requests per machine",
    why="MaxConcurrentInvocationsPerInstance goes from 1 to 1,000.",
    change="a number from 1 up to 1000",
    bound="endpoint.max_concurrent_requests",
)


_WHOLE_ANSWER_SECONDS = 60


class RealtimeEndpoint(InstanceEndpoint):
    """Instances that are always there."""

    kind: Literal["realtime"] = setting("Instances that are always there.", "realtime")
    instances: Instances = setting("Machines behind the champion.", {"type": "ml.g6e.xlarge"})
    scaling: ScalingSettings = setting(
        "How the number of machines follows the load.", {}, default=ScalingSettings()
    )
    deployment: Deployment = setting("How an update rolls out.", {"kind": "canary"})
    challenger_weight: float = setting(
        "Weight of the challenger when an A/B test starts, against the champion's 1.", 0.1, gt=0, default=0.1
    )
    shadow_percent: int = setting(
        "Share of requests mirrored to the challenger in the shadow phase.", 50, ge=1, le=100, default=50
    )
    data_capture: DataCapture | None = setting(
        "Copies of requests and answers; unmasked.", {"percent": 10}, default=None
    )

    @property
    def scales(self) -> bool:
        """Whether the number of machines changes by itself."""
        return self.instances.max > self.instances.min or bool(self.scaling.schedules)

    @model_validator(mode="after")
    def _rules(self) -> Self:
        check_machines(self.engine, self.instances)
        check_schedules(self.scaling, self.instances)
        for schedule in self.scaling.schedules:
            if schedule.min < 1:
                raise SCHEDULE_ZERO.refusal(
                    "scaling", "schedules", what=f"The schedule '{schedule.name}' goes down to 0.", example=[]
                )
        check_canary(self.deployment, self.instances, self.scaling)
        return self


class AsyncEndpoint(InstanceEndpoint):
    """Requests and answers in S3, hours if need be; machines may all go while nothing waits."""

    foreign = {
        "challenger_weight": inapplicable_keys.ASYNC_VARIANTS,
        "shadow_percent": inapplicable_keys.ASYNC_VARIANTS,
        "data_capture": inapplicable_keys.ASYNC_CAPTURE,
    }

    kind: Literal["async"] = setting("Requests and answers in S3.", "async")
    instances: IdleInstances = setting("Machines that work off the queue.", {"type": "ml.g6e.xlarge"})
    scaling: BacklogScalingSettings = setting(
        "How machines follow the queue.", {}, default=BacklogScalingSettings()
    )
    deployment: Deployment = setting("How an update rolls out.", {"kind": "all_at_once"})
    max_concurrent_requests: int = setting("Requests in flight per machine.", 8, ge=1, le=1000)
    emails: list[EmailAddress] = setting(
        "Addresses told of failed requests; each must confirm once.", ["on-call@example.com"], default=[]
    )

    @model_validator(mode="after")
    def _rules(self) -> Self:
        check_machines(self.engine, self.instances)
        check_schedules(self.scaling, self.instances)
        check_canary(self.deployment, self.instances, self.scaling)
        return self


class ServerlessEndpoint(EndpointBase):
    """A small model on CPUs that exist while a request runs; the first one waits for a cold start."""

    foreign = {
        "challenger_weight": inapplicable_keys.SERVERLESS_VARIANTS,
        "shadow_percent": inapplicable_keys.SERVERLESS_VARIANTS,
        "deployment": inapplicable_keys.SERVERLESS_ROLLOUT,
        "network_isolation": inapplicable_keys.SERVERLESS_NETWORK,
        "vpc": inapplicable_keys.SERVERLESS_NETWORK,
        "instances": inapplicable_keys.SERVERLESS_MACHINES,
        "scaling": inapplicable_keys.SERVERLESS_MACHINES,
        "data_capture": inapplicable_keys.SERVERLESS_CAPTURE,
    }

    kind: Literal["serverless"] = setting("CPUs that exist while a request runs.", "serverless")
    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = setting(
        "Memory; CPU grows with it, and the model must fit.", 4096
    )
    max_concurrency: int = setting("Requests at one moment; more get 429.", 10, ge=1, le=200)
    provisioned_concurrency: int | None = setting(
        "Requests that meet no cold start; billed while nobody calls.", 1, ge=1, le=200, default=None
    )

    provisioned_scaling: ProvisionedConcurrencyScaling | None = setting(
        "How provisioned concurrency follows the load; left out, it keeps its number.",
        {"max": 5},
        default=None,
    )

    def _check_ready(self) -> None:
        scaling, least = self.provisioned_scaling, self.provisioned_concurrency
        if scaling is None:
            return
        if least is None:
            raise _READY.refusal("provisioned_scaling", what="Nothing is provisioned.", example=None)
        if not least <= scaling.max <= self.max_concurrency:
            raise _READY_BOUNDS.refusal(
                "provisioned_scaling",
                "max",
                what=f"It cannot scale from {least} to {scaling.max} of {self.max_concurrency}.",
                change=f"a number from {least} up to {self.max_concurrency}",
                example=self.max_concurrency,
            )
        for schedule in scaling.schedules:
            if not 1 <= schedule.min <= schedule.max <= scaling.max:
                raise _READY_BOUNDS.refusal(
                    "provisioned_scaling",
                    "schedules",
                    what=f"The schedule '{schedule.name}' goes from {schedule.min} to {schedule.max}.",
                    change=f"bounds from 1 up to {scaling.max}",
                    example=[],
                )

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.engine.kind != "transformers":
            raise _SERVERLESS_ENGINE.refusal(
                "engine",
                "kind",
                what=f"Engine '{self.engine.kind}' does not run serverless.",
                example="transformers",
            )
        if self.engine.request_timeout_seconds > _WHOLE_ANSWER_SECONDS:
            raise _SERVERLESS_TIMEOUT.refusal(
                "engine",
                "request_timeout_seconds",
                what=f"{self.engine.request_timeout_seconds} s are more than a serverless request may take.",
                example=_WHOLE_ANSWER_SECONDS,
            )
        if self.provisioned_concurrency and self.provisioned_concurrency > self.max_concurrency:
            raise _PROVISIONED.refusal(
                "provisioned_concurrency",
                what=f"{self.provisioned_concurrency} of {self.max_concurrency} cannot be kept ready.",
                example=self.max_concurrency,
            )
        self._check_ready()
        return self


Endpoint = Annotated[
    RealtimeEndpoint | ScaleToZeroEndpoint | AsyncEndpoint | ServerlessEndpoint, Field(discriminator="kind")
]
AnyEndpoint = RealtimeEndpoint | ScaleToZeroEndpoint | AsyncEndpoint | ServerlessEndpoint
