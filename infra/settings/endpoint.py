"""The endpoint: a union of kinds told apart by `kind`; each brings the keys it needs and no others.

A key of another kind is refused with SageMaker's reason where there is one. Rules between endpoint and model
stand in rules.py. Knows nothing of CDK. Sources of the rules: SageMaker's API reference and developer guide.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from infra.settings import elsewhere, instances
from infra.settings.base import SettingsModel, setting
from infra.settings.engine import Engine
from infra.settings.exclusions import Exclusion, exclusion
from infra.settings.fits import SCHEDULE, SCHEDULE_ZERO, check_canary, check_machines, check_schedules
from infra.settings.machines import IdleInstances, Instances
from infra.settings.rollout import Deployment, Rolling
from infra.settings.scaling import BacklogScaling, Scaling
from infra.settings.surroundings import DataCapture, Monitoring, Vpc

_DEVICES_OF_COPY = exclusion(
    "copies-fit",
    refuses="more copies than the machines' accelerators can hold",
    why="A copy keeps its accelerators for itself; further copies would wait for capacity in vain.",
    change="fewer copies.max, or more instances.max",
)
_ADAPTERS = exclusion(
    "adapters-engine",
    refuses="adapters on vLLM for Neuron",
    why="A compiled Neuron model takes no adapter while it serves.",
    change="engine vllm or transformers",
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


class _Endpoint(SettingsModel):
    """What every kind has."""

    foreign: ClassVar[dict[str, Exclusion]] = {}
    """Keys of other kinds that SageMaker excludes here."""

    kind: str
    engine: Engine = setting("What runs inside the container.", {"kind": "vllm"})
    monitoring: Monitoring = setting("The endpoint's own metrics.", {}, default=Monitoring())
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


class _OnMachines(_Endpoint):
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


class RealtimeEndpoint(_OnMachines):
    """Instances that are always there."""

    kind: Literal["realtime"] = setting("Instances that are always there.", "realtime")
    instances: Instances = setting("Machines behind the champion.", {"type": "ml.g6e.xlarge"})
    scaling: Scaling = setting("How the number of machines follows the load.", {}, default=Scaling())
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


class Copies(SettingsModel):
    """Copies of the model, and what each keeps for itself."""

    min: int = setting("Copies at least; 0 for none while nobody calls.", 0, ge=0, le=100, default=0)
    max: int = setting("Copies at most.", 4, ge=1, le=100, default=1)
    memory_mb: int = setting("Main memory of one copy.", 16_384, ge=128, le=2_097_152)
    accelerators: int = setting("GPUs or Neuron devices of one copy; 0 on CPUs.", 1, ge=0, le=64, default=0)
    cpu_cores: float | None = setting("CPU cores of one copy.", 4.0, gt=0, le=512, default=None)


class Adapter(SettingsModel):
    """A LoRA adapter beside the base model, as an inference component of its own."""

    name: str = setting("Name that callers use.", "support", pattern=r"^[a-z][a-z0-9-]{0,30}$")
    source: str = setting(
        "The adapter's archive in S3.",
        "s3://my-models/adapters/support.tar.gz",
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+\.tar\.gz$",
    )


class ScaleToZeroEndpoint(_OnMachines):
    """Machines that go while nobody calls; the first caller afterwards is asked to come back."""

    foreign = {
        "challenger_weight": elsewhere.COMPONENT_VARIANTS,
        "shadow_percent": elsewhere.COMPONENT_VARIANTS,
    }

    kind: Literal["scale_to_zero"] = setting("Copies and machines that may all go.", "scale_to_zero")
    instances: IdleInstances = setting("Machines that hold the copies.", {"type": "ml.g6e.xlarge"})
    copies: Copies = setting("Copies of the model.", {"max": 4, "memory_mb": 16384})
    scaling: Scaling = setting("How the number of copies follows the load.", {}, default=Scaling())
    deployment: Rolling = setting("How an update rolls out.", {"kind": "rolling"})
    adapters: list[Adapter] = setting(
        "LoRA adapters on the base model.", [{"name": "support"}], default=[], max_length=50
    )

    @model_validator(mode="before")
    @classmethod
    def _copies_roll(cls, values: Any) -> Any:
        rollout = values.get("deployment") if isinstance(values, dict) else None
        kind = rollout.get("kind") if isinstance(rollout, dict) else None
        if kind in ("canary", "linear", "all_at_once"):
            raise elsewhere.COMPONENT_ROLLOUT.refusal(
                "deployment", "kind", what=f"Copies do not roll out by '{kind}'.", example="rolling"
            )
        return values

    @model_validator(mode="after")
    def _rules(self) -> Self:
        check_machines(self.engine, self.instances)
        for schedule in self.scaling.schedules:
            if schedule.max > self.copies.max:
                raise SCHEDULE.refusal(
                    "scaling",
                    "schedules",
                    what=f"The schedule '{schedule.name}' goes above {self.copies.max} copies.",
                    example=[],
                )
        devices = instances.devices(self.instances.type)
        room = devices.count * self.instances.max if devices else None
        if room is not None and self.copies.accelerators * self.copies.max > room:
            raise _DEVICES_OF_COPY.refusal(
                "copies",
                "max",
                what=f"{self.copies.max} copies of {self.copies.accelerators} devices exceed {room}.",
                example=max(1, room // self.copies.accelerators),
            )
        if self.adapters and self.engine.kind == "neuron":
            raise _ADAPTERS.refusal("adapters", what="Engine 'neuron' takes no adapters.", example=None)
        return self


class AsyncEndpoint(_OnMachines):
    """Requests and answers in S3, hours if need be; machines may all go while nothing waits."""

    foreign = {
        "challenger_weight": elsewhere.ASYNC_VARIANTS,
        "shadow_percent": elsewhere.ASYNC_VARIANTS,
        "data_capture": elsewhere.ASYNC_CAPTURE,
    }

    kind: Literal["async"] = setting("Requests and answers in S3.", "async")
    instances: IdleInstances = setting("Machines that work off the queue.", {"type": "ml.g6e.xlarge"})
    scaling: BacklogScaling = setting("How machines follow the queue.", {}, default=BacklogScaling())
    deployment: Deployment = setting("How an update rolls out.", {"kind": "all_at_once"})
    max_concurrent_requests: int = setting("Requests in flight per machine.", 8, ge=1, le=1000)
    emails: list[str] = setting(
        "Addresses told of failed requests; each must confirm once.", ["on-call@example.com"], default=[]
    )

    @model_validator(mode="after")
    def _rules(self) -> Self:
        check_machines(self.engine, self.instances)
        check_schedules(self.scaling, self.instances)
        check_canary(self.deployment, self.instances, self.scaling)
        return self


class ServerlessEndpoint(_Endpoint):
    """A small model on CPUs that exist while a request runs; the first one waits for a cold start."""

    foreign = {
        "challenger_weight": elsewhere.SERVERLESS_VARIANTS,
        "shadow_percent": elsewhere.SERVERLESS_VARIANTS,
        "deployment": elsewhere.SERVERLESS_ROLLOUT,
        "network_isolation": elsewhere.SERVERLESS_NETWORK,
        "vpc": elsewhere.SERVERLESS_NETWORK,
        "instances": elsewhere.SERVERLESS_MACHINES,
        "scaling": elsewhere.SERVERLESS_MACHINES,
        "data_capture": elsewhere.SERVERLESS_CAPTURE,
    }

    kind: Literal["serverless"] = setting("CPUs that exist while a request runs.", "serverless")
    memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = setting(
        "Memory; CPU grows with it, and the model must fit.", 4096
    )
    max_concurrency: int = setting("Requests at one moment; more get 429.", 10, ge=1, le=200)
    provisioned_concurrency: int | None = setting(
        "Requests that meet no cold start; billed while nobody calls.", 1, ge=1, le=200, default=None
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
        if self.provisioned_concurrency and self.provisioned_concurrency > self.max_concurrency:
            raise _PROVISIONED.refusal(
                "provisioned_concurrency",
                what=f"{self.provisioned_concurrency} of {self.max_concurrency} cannot be kept ready.",
                example=self.max_concurrency,
            )
        return self


Endpoint = Annotated[
    RealtimeEndpoint | ScaleToZeroEndpoint | AsyncEndpoint | ServerlessEndpoint, Field(discriminator="kind")
]
AnyEndpoint = RealtimeEndpoint | ScaleToZeroEndpoint | AsyncEndpoint | ServerlessEndpoint
