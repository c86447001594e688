"""The containers of one variant or inference component: started together, scaled, drained.

Knows how to make an instance from a model record; knows nothing of endpoints and of other variants.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from contracts.container import ENV_SAGEMAKER_MODEL_DIR
from local.sagemaker.instances import routing
from local.sagemaker.instances.container_environment import surroundings
from local.sagemaker.instances.container_process import Ledger
from local.sagemaker.instances.fault_injection import Faults
from local.sagemaker.instances.images import ImageNotFound, ImageTable, Program
from local.sagemaker.instances.instance import Instance, Launch, StartFailure
from local.sagemaker.instances.location import Place
from local.sagemaker.instances.model_data import ArtefactCache, ArtefactFailure, source_of
from local.sagemaker.ports import Cloud
from local.sagemaker.store import Identity, Record

DEFAULT_STARTUP_SECONDS = 240.0
DEFAULT_DOWNLOAD_SECONDS = 1200.0
DRAIN_SECONDS = 480.0  # a streamed reply may take that long

LogSink = Callable[[str, str, str], None]


@dataclass(frozen=True)
class Workshop:
    """What every instance is made with."""

    identity: Identity
    cloud: Cloud
    images: ImageTable
    artefacts: ArtefactCache
    scratch: Path
    client: httpx.AsyncClient
    log_line: LogSink  # (log group, log stream, line)
    ledger: Ledger
    faults: Faults
    record: Callable[[Place, dict[str, float]], None]  # publish values of metrics


class VariantPool:
    """One variant of a running endpoint, or one inference component on it. `variant` holds the settings of
    either; `furnish` is done to every container before it takes requests. `weight` may be changed at any
    time."""

    def __init__(
        self,
        workshop: Workshop,
        endpoint: str,
        variant: Record,
        model: Record,
        *,
        weight: float,
        count: int,
        component: str | None = None,
        furnish: Callable[[Instance], Awaitable[None]] | None = None,
    ) -> None:
        self.name: str = variant["VariantName"]
        self.place = Place(endpoint, self.name, model["ModelName"], component)
        self.weight = weight
        self.model = model
        self.desired_count = count
        self.instances: list[Instance] = []
        self.model_folder: Path | None = None
        self.workshop = workshop
        self.settings = variant
        self._furnish = furnish
        self._launch: Launch | None = None

    @property
    def faults(self) -> Faults:
        """What is to go wrong."""
        return self.workshop.faults

    @property
    def current_count(self) -> int:
        """Instances there are."""
        return len(self.instances)

    @property
    def outstanding(self) -> int:
        """Requests in flight."""
        return sum(instance.outstanding for instance in self.instances)

    async def start(self) -> None:
        """Bring every instance into service, all at once; raises StartFailure and leaves none behind."""
        await self.scale(self.desired_count)

    async def scale(self, count: int) -> None:
        """Start or drain instances until there are `count`; raises StartFailure when one does not start."""
        self.desired_count = count
        surplus, self.instances = self.instances[count:], self.instances[:count]
        wanted = count - len(self.instances)
        try:
            fresh = await self._new_instances(wanted) if wanted > 0 else []
        except StartFailure:
            self.desired_count = len(self.instances)
            raise
        results = await asyncio.gather(*(instance.start() for instance in fresh), return_exceptions=True)
        failures = [result for result in results if result is not None]
        if failures:
            self.desired_count = len(self.instances) + len(surplus)
            await asyncio.gather(*(instance.stop() for instance in fresh))
            self.instances += surplus
            raise StartFailure(str(failures[0])) from failures[0]
        self.instances += fresh
        await asyncio.gather(*(_drain(instance) for instance in surplus))

    async def stop(self, *, drain: bool) -> None:
        """End every instance, after its last request when `drain` is set."""
        instances, self.instances = self.instances, []
        await asyncio.gather(*(_drain(instance) if drain else instance.stop() for instance in instances))

    async def acquire(self) -> Instance | None:
        """The instance that takes the next request; None when none is in service. May wait for one."""
        return self.pick()

    def pick(self) -> Instance | None:
        """The instance that takes the next request now; None when none is in service."""
        ready = [instance for instance in self.instances if instance.in_service]
        strategy = self.settings.get("RoutingConfig", {}).get("RoutingStrategy")
        choose = routing.any_of if strategy == "RANDOM" else routing.least_outstanding
        return choose(ready, random.random())  # noqa: S311 - spreads load, guards nothing

    async def _new_instances(self, count: int) -> list[Instance]:
        if self._launch is None:
            self._launch = await self._prepare()
        return [self._new_instance(self._launch) for _ in range(count)]

    def _new_instance(self, launch: Launch) -> Instance:
        instance_type = self._obtained_type()
        if failure := self.faults.start_failure(self.place):
            raise StartFailure(failure)
        instance_id = f"i-{secrets.token_hex(8)}"
        stream, group = f"{self.name}/{instance_id}", self.place.log_group
        workshop = self.workshop
        return Instance(
            instance_id,
            launch,
            workshop.client,
            lambda line: workshop.log_line(group, stream, line),
            workshop.ledger,
            self._furnish,
            instance_type,
        )

    def _obtained_type(self) -> str | None:
        """The first instance type, in order of preference, of which there is one to be had; None for a
        variant without types. Raises StartFailure when all are taken."""
        failure = None
        for instance_type in instance_types_of(self.settings):
            failure = self.faults.capacity_failure(self.place, instance_type)
            if failure is None:
                return instance_type
        if failure:
            raise StartFailure(failure)
        return None

    async def _prepare(self) -> Launch:
        """Fetch what an instance needs; raises StartFailure in the service's words."""
        workshop, container = self.workshop, container_of(self.model)
        role, source = self.model["ExecutionRoleArn"], source_of(container)
        try:
            program = workshop.images.resolve(container["Image"])
            if source:
                credentials = workshop.cloud.role_credentials(role)
                async with asyncio.timeout(
                    self.settings.get("ModelDataDownloadTimeoutInSeconds", DEFAULT_DOWNLOAD_SECONDS)
                ):
                    self.model_folder = await asyncio.to_thread(
                        workshop.artefacts.fetch, source, role, credentials
                    )
        except TimeoutError:
            raise StartFailure(f"Model data download timed out for {source.uri}.") from None
        except (ImageNotFound, ArtefactFailure, PermissionError) as error:
            raise StartFailure(str(error)) from error
        return Launch(
            program=program,
            environment=lambda: self._environment(program),
            startup_timeout=self.settings.get(
                "ContainerStartupHealthCheckTimeoutInSeconds", DEFAULT_STARTUP_SECONDS
            ),
            label=f"The primary container for {self._kind} {self.place.component or self.name}",
        )

    @property
    def _kind(self) -> str:
        return "inference component" if self.place.component else "production variant"

    def _environment(self, program: Program) -> dict[str, str]:
        workshop = self.workshop
        home = workshop.scratch / self.place.endpoint.lower() / self.place.folder
        home.mkdir(parents=True, exist_ok=True)
        try:
            credentials = workshop.cloud.role_credentials(self.model["ExecutionRoleArn"])
        except PermissionError as error:
            raise StartFailure(str(error)) from error
        environment = {
            **container_of(self.model).get("Environment", {}),
            **surroundings(program, home, workshop.identity, workshop.cloud.endpoint_url, credentials),
        }
        if self.model_folder:
            environment[ENV_SAGEMAKER_MODEL_DIR] = str(self.model_folder)
        return environment


def instance_types_of(variant: Record) -> list[str]:
    """The instance types that a variant may run on, the preferred one first; none for a serverless one."""
    pools = sorted(variant.get("InstancePools", []), key=lambda pool: pool["Priority"])
    return [pool["InstanceType"] for pool in pools] or [
        variant[name] for name in ("InstanceType",) if name in variant
    ]


def container_of(model: Record) -> Record:
    """The one container of a model record."""
    return model.get("PrimaryContainer") or model["Containers"][0]


async def _drain(instance: Instance) -> None:
    instance.retire()
    await instance.drained(DRAIN_SECONDS)
    await instance.stop()
