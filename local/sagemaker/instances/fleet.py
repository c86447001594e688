"""The live side of an endpoint: which variants run, and how traffic is split between an old and a new fleet.

A fleet is everything that one endpoint configuration describes. During a guarded update two fleets run, blue
(old) and green (new), and `green_share` says how much of the traffic green takes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path

from local.sagemaker.errors import AwsApiError, unavailable
from local.sagemaker.execution_role import ExecutionRole, ExecutionRoleError
from local.sagemaker.instances import routing
from local.sagemaker.instances.instance import EndpointInstance, InstanceStartError
from local.sagemaker.instances.instance_factory import InstanceFactory
from local.sagemaker.instances.location import InstanceLocation
from local.sagemaker.instances.pool import VariantPool, instance_types_of
from local.sagemaker.instances.serverless import ServerlessPool
from local.sagemaker.records import (
    EndpointConfigRecord,
    ModelRecord,
    VariantRecord,
    WeightsAndCapacities,
)

NO_COMPONENT_NAME = (
    "Inference Component Name header is required for endpoints to which you plan to deploy inference "
    "components. Please include Inference Component Name header or consider using SageMaker models."
)


class ComponentVariant:
    """A variant that hosts inference components: it has no container of its own.

    Its instances are only counted: `min_instances` to `max_instances`, `desired_count` now. Starting and
    ending them takes no time; starting and ending the copies does.
    """

    def __init__(
        self,
        factory: InstanceFactory,
        endpoint: str,
        variant: VariantRecord,
        config: EndpointConfigRecord,
        count: int,
    ) -> None:
        self.name: str = variant["VariantName"]
        self.endpoint = endpoint
        self.weight = 1.0
        self.desired_count = count
        self.settings = variant
        self.instances: list[EndpointInstance] = []
        self.model_folder: Path | None = None
        self._place = InstanceLocation(endpoint, self.name, "")
        self._faults = factory.faults
        self._role = ExecutionRole(config["ExecutionRoleArn"], factory.cloud, factory.identity)
        self._volume_key = config.get("KmsKeyId")

    @property
    def current_count(self) -> int:
        """Instances there are."""
        return self.desired_count

    @property
    def managed(self) -> bool:
        """Whether the service sets the number of instances."""
        scaling = self.settings.get("ManagedInstanceScaling", {})
        return "ManagedInstanceScaling" in self.settings and scaling.get("Status", "ENABLED") == "ENABLED"

    @property
    def min_instances(self) -> int:
        """Instances that stay without any copy."""
        return int(self.settings["ManagedInstanceScaling"].get("MinInstanceCount", 1)) if self.managed else 0

    @property
    def max_instances(self) -> int:
        """Instances that there may be."""
        if not self.managed:
            return self.desired_count
        return int(self.settings["ManagedInstanceScaling"].get("MaxInstanceCount", self.desired_count))

    @property
    def instance_type(self) -> str:
        """The preferred type: copies are placed on instances of its size."""
        return instance_types_of(self.settings)[0]

    async def start(self) -> None:
        """Raises InstanceStartError when no type has capacity to be had, or the role may not open volumes."""
        if self._volume_key:
            try:
                self._role.open_volume(self._volume_key)
            except ExecutionRoleError as error:
                raise InstanceStartError(str(error)) from error
        kinds = instance_types_of(self.settings)
        failures = [self._faults.capacity_failure(self._place, kind) for kind in kinds]
        if all(failures):
            raise InstanceStartError(str(failures[-1]))

    async def scale(self, count: int) -> None:
        """Have so many instances; raises InstanceStartError when there is no capacity to be had."""
        if count > self.desired_count:
            await self.start()
        self.desired_count = count

    async def stop(self, *, drain: bool) -> None:
        """The copies are ended by whoever runs them."""


class Fleet:
    """The variants of one endpoint configuration, production and shadow."""

    def __init__(
        self,
        factory: InstanceFactory,
        endpoint: str,
        config: EndpointConfigRecord,
        models: dict[str, ModelRecord],
        sizes: WeightsAndCapacities,
    ) -> None:
        def pool(variant: VariantRecord) -> VariantPool | ComponentVariant:
            weight, count = sizes[variant["VariantName"]]
            if not variant.get("ModelName"):
                return ComponentVariant(factory, endpoint, variant, config, count)
            kind = ServerlessPool if "ServerlessConfig" in variant else VariantPool
            model = models[variant["ModelName"].lower()]
            key = config.get("KmsKeyId")
            return kind(factory, endpoint, variant, model, weight=weight, count=count, volume_key=key)

        def pools(variants: Iterable[VariantRecord]) -> dict[str, VariantPool | ComponentVariant]:
            return {variant["VariantName"]: pool(variant) for variant in variants}

        self.config_name: str = config["EndpointConfigName"]
        self.production = pools(config["ProductionVariants"])
        self.shadow = pools(config.get("ShadowProductionVariants", []))

    @property
    def pools(self) -> list[VariantPool | ComponentVariant]:
        """Production variants first."""
        return [*self.production.values(), *self.shadow.values()]

    async def start(self) -> None:
        """Bring everything into service; raises InstanceStartError and leaves nothing running."""
        results = await asyncio.gather(*(pool.start() for pool in self.pools), return_exceptions=True)
        failures = [result for result in results if result is not None]
        if failures:
            await self.stop(drain=False)
            raise InstanceStartError(str(failures[0])) from failures[0]

    async def stop(self, *, drain: bool) -> None:
        """End everything, after the last request when `drain` is set."""
        await asyncio.gather(*(pool.stop(drain=drain) for pool in self.pools))


class LiveEndpoint:
    """What requests to one endpoint are routed by. Changing an attribute changes the next request."""

    def __init__(self) -> None:
        self.blue: Fleet | None = None
        self.green: Fleet | None = None
        self.green_share = 0.0

    @property
    def serving(self) -> Fleet:
        """The fleet of an endpoint in service; raises RuntimeError for one that has none."""
        if self.blue is None:
            raise RuntimeError("the endpoint has no fleet in service")
        return self.blue

    def route(self, target_variant: str | None) -> tuple[Fleet, VariantPool]:
        """The variant that takes a request; raises the runtime's error for an unknown one."""
        fleet = self.green if self.green and random.random() < self.green_share else self.blue  # noqa: S311
        if fleet is None:
            raise unavailable("The endpoint has no instance.")
        if target_variant is None:
            weights = {name: pool.weight for name, pool in fleet.production.items()}
            target_variant = routing.choose_variant(weights, random.random())  # noqa: S311
            if target_variant is None:
                raise AwsApiError("ValidationError", "No production variant of the endpoint has a weight.")
        elif target_variant not in fleet.production:
            raise AwsApiError("ValidationError", f"Variant {target_variant} not found for Request")
        pool = fleet.production[target_variant]
        if isinstance(pool, ComponentVariant):
            raise AwsApiError("ValidationError", NO_COMPONENT_NAME)
        return fleet, pool

    def pools(self) -> list[VariantPool]:
        """The variants with containers of their own that run now, of all fleets."""
        return [pool for fleet in self.fleets() for pool in fleet.pools if isinstance(pool, VariantPool)]

    def fleets(self) -> Iterable[Fleet]:
        """The fleets that run now."""
        return [fleet for fleet in (self.blue, self.green) if fleet]
