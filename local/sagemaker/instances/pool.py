"""The containers of one variant or inference component: started together, scaled, drained.

Knows how to make an instance from a model record; knows nothing of endpoints and of other variants.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from contracts.container import ENV_SAGEMAKER_MODEL_DIR
from local.sagemaker.execution_role import ExecutionRole, ExecutionRoleError
from local.sagemaker.instances import routing
from local.sagemaker.instances.container_environment import container_environment
from local.sagemaker.instances.fault_injection import FaultInjector
from local.sagemaker.instances.images import ImageNotFoundError, Program
from local.sagemaker.instances.instance import EndpointInstance, InstanceStartError, LaunchSpec
from local.sagemaker.instances.instance_factory import ContainerInitializer, InstanceFactory
from local.sagemaker.instances.location import InstanceLocation
from local.sagemaker.instances.model_data import ModelDataError, S3DataSource, data_source_of
from local.sagemaker.records import ContainerDefinition, ModelRecord, VariantRecord

DEFAULT_STARTUP_SECONDS = 240.0
DEFAULT_DOWNLOAD_SECONDS = 1200.0
DRAIN_SECONDS = 480.0  # a streamed reply may take that long


class VariantPool:
    """A variant of a running endpoint, or an inference component on it. `weight` may change at any time."""

    def __init__(
        self,
        factory: InstanceFactory,
        endpoint: str,
        variant: VariantRecord,
        model: ModelRecord,
        *,
        weight: float,
        count: int,
        component: str | None = None,
        volume_key: str | None = None,
        initialize_container: ContainerInitializer | None = None,
    ) -> None:
        """Make a pool without instances; `start` brings them up.

        Args:
            factory: What instances are made with.
            endpoint: The endpoint's name.
            variant: The settings of the variant, or those of the component in the same members.
            model: The model's record.
            weight: The variant's share of the traffic, relative to the other weights.
            count: How many instances to start.
            component: The inference component's name; None for a variant's own containers.
            volume_key: The key of the instances' volumes; None where the configuration names none.
            initialize_container: Awaited with each started container before it takes requests.
        """
        self.name: str = variant["VariantName"]
        self.location = InstanceLocation(endpoint, self.name, model["ModelName"], component)
        self.weight = weight
        self.model = model
        self.desired_count = count
        self.instances: list[EndpointInstance] = []
        self.model_folder: Path | None = None
        self.factory = factory
        self.settings = variant
        self._volume_key = volume_key
        self._role = ExecutionRole(model["ExecutionRoleArn"], factory.cloud, factory.identity)
        self._initialize_container = initialize_container
        self._launch: LaunchSpec | None = None

    @property
    def faults(self) -> FaultInjector:
        """What is to go wrong."""
        return self.factory.faults

    @property
    def current_count(self) -> int:
        """Instances there are."""
        return len(self.instances)

    @property
    def outstanding(self) -> int:
        """Requests in flight."""
        return sum(instance.outstanding for instance in self.instances)

    async def start(self) -> None:
        """Bring every instance into service, all at once; raises InstanceStartError."""
        await self.scale(self.desired_count)

    async def scale(self, count: int) -> None:
        """Start or drain instances until there are `count`; raises InstanceStartError if one fails."""
        self.desired_count = count
        surplus, self.instances = self.instances[count:], self.instances[:count]
        wanted = count - len(self.instances)
        try:
            fresh = await self._new_instances(wanted) if wanted > 0 else []
        except InstanceStartError:
            self.desired_count = len(self.instances)
            raise
        results = await asyncio.gather(*(instance.start() for instance in fresh), return_exceptions=True)
        failures = [result for result in results if result is not None]
        if failures:
            self.desired_count = len(self.instances) + len(surplus)
            await asyncio.gather(*(instance.stop() for instance in fresh))
            self.instances += surplus
            raise InstanceStartError(str(failures[0])) from failures[0]
        self.instances += fresh
        await asyncio.gather(*(_drain(instance) for instance in surplus))

    async def stop(self, *, drain: bool) -> None:
        """End every instance, after its last request when `drain` is set."""
        instances, self.instances = self.instances, []
        await asyncio.gather(*(_drain(instance) if drain else instance.stop() for instance in instances))

    async def acquire(self) -> EndpointInstance | None:
        """The instance that takes the next request; None when none is in service. May wait for one."""
        return self.pick()

    def pick(self) -> EndpointInstance | None:
        """The instance that takes the next request now; None when none is in service."""
        ready = [instance for instance in self.instances if instance.in_service]
        strategy = self.settings.get("RoutingConfig", {}).get("RoutingStrategy")
        choose = routing.random_choice if strategy == "RANDOM" else routing.least_outstanding
        return choose(ready, random.random())  # noqa: S311 - spreads load, guards nothing

    async def _new_instances(self, count: int) -> list[EndpointInstance]:
        try:  # each new instance pulls the image and opens its volume
            self._role.pull_image(container_of(self.model)["Image"])
            if self._volume_key:
                self._role.open_volume(self._volume_key)
        except ExecutionRoleError as error:
            raise InstanceStartError(str(error)) from error
        if self._launch is None:
            self._launch = await self._prepare()
        return [self._new_instance(self._launch) for _ in range(count)]

    def _new_instance(self, launch: LaunchSpec) -> EndpointInstance:
        instance_type = self._obtained_type()
        if failure := self.faults.start_failure(self.location):
            raise InstanceStartError(failure)
        return self.factory.create_instance(launch, self.location, instance_type, self._initialize_container)

    def _obtained_type(self) -> str | None:
        """The first instance type, in order of preference, of which there is one to be had; None for a
        variant without types. Raises InstanceStartError when all are taken."""
        failure = None
        for instance_type in instance_types_of(self.settings):
            failure = self.faults.capacity_failure(self.location, instance_type)
            if failure is None:
                return instance_type
        if failure:
            raise InstanceStartError(failure)
        return None

    async def _prepare(self) -> LaunchSpec:
        """Fetch what an instance needs; raises InstanceStartError in the service's words."""
        factory, container = self.factory, container_of(self.model)
        role, source = self.model["ExecutionRoleArn"], data_source_of(container)
        try:
            program = factory.images.resolve(container["Image"])
            if source:
                self.model_folder = await self._download(source, role)
        except (ImageNotFoundError, ModelDataError, PermissionError) as error:
            raise InstanceStartError(str(error)) from error
        return LaunchSpec(
            program=program,
            environment=lambda: self._environment(program),
            startup_timeout=self.settings.get(
                "ContainerStartupHealthCheckTimeoutInSeconds", DEFAULT_STARTUP_SECONDS
            ),
            role_arn=role,
            label=f"The primary container for {self._kind} {self.location.component or self.name}",
        )

    async def _download(self, source: S3DataSource, role: str) -> Path:
        credentials = self.factory.cloud.role_credentials(role)
        limit = self.settings.get("ModelDataDownloadTimeoutInSeconds", DEFAULT_DOWNLOAD_SECONDS)
        try:
            async with asyncio.timeout(limit):
                return await asyncio.to_thread(self.factory.model_data.fetch, source, role, credentials)
        except TimeoutError:
            raise InstanceStartError(f"Model data download timed out for {source.uri}.") from None

    @property
    def _kind(self) -> str:
        return "inference component" if self.location.component else "production variant"

    def _environment(self, program: Program) -> dict[str, str]:
        factory = self.factory
        home = factory.scratch / self.location.endpoint.lower() / self.location.folder
        home.mkdir(parents=True, exist_ok=True)
        try:
            credentials = factory.cloud.role_credentials(self.model["ExecutionRoleArn"])
        except PermissionError as error:
            raise InstanceStartError(str(error)) from error
        environment = {
            **container_of(self.model).get("Environment", {}),
            **container_environment(program, home, factory.identity, factory.cloud.endpoint_url, credentials),
        }
        if self.model_folder:
            environment[ENV_SAGEMAKER_MODEL_DIR] = str(self.model_folder)
        return environment


def instance_types_of(variant: VariantRecord) -> list[str]:
    """The instance types that a variant may run on, the preferred one first; none for a serverless one."""
    pools = sorted(variant.get("InstancePools", []), key=lambda pool: pool["Priority"])
    return [pool["InstanceType"] for pool in pools] or [
        variant[name] for name in ("InstanceType",) if name in variant
    ]


def container_of(model: ModelRecord) -> ContainerDefinition:
    """The one container of a model record."""
    return model.get("PrimaryContainer") or model["Containers"][0]


async def _drain(instance: EndpointInstance) -> None:
    instance.retire()
    await instance.drained(DRAIN_SECONDS)
    await instance.stop()
