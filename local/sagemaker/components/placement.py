"""Where an inference component's copies fit: instances as arithmetic over what every copy needs."""

from __future__ import annotations

from collections.abc import Iterable

from local.sagemaker.components.instance_types import ComputeResources, compute_resources_of, instances_needed
from local.sagemaker.instances.endpoint_deployments import EndpointDeployments
from local.sagemaker.instances.fleet import ComponentVariant
from local.sagemaker.instances.instance import InstanceStartError
from local.sagemaker.records import ComponentDefinition, InferenceComponentRecord, VariantRecord
from local.sagemaker.store import SageMakerStore


class Placement:
    """The instances of variants that host components, and the room that they have for copies."""

    def __init__(self, store: SageMakerStore, deployments: EndpointDeployments) -> None:
        self._store, self._deployments = store, deployments

    def capacity_shortage(self, record: ComponentDefinition, copies: int) -> str | None:
        """Why an endpoint cannot hold so many copies of a component; None when it can."""
        variant = self.variant(record)
        machine = compute_resources_of(variant.instance_type)
        needed = instances_needed(self._sizes(variant, {component_key(record): (record, copies)}), machine)
        if needed is not None and needed <= variant.max_instances:
            return None
        have = f"{variant.max_instances} instance(s) of {variant.instance_type}"
        return f"There is not enough hardware capacity for {copies} copies: at most {have} can hold them."

    def fit_instances(self, record: InferenceComponentRecord) -> None:
        """Under managed scaling there are as many instances as the copies need, within the limits."""
        variant = self.find_variant(record)
        endpoint = self._store.endpoints.find(record["EndpointName"])
        if variant is None or endpoint is None or not variant.managed:
            return
        sizes = self._sizes(variant, {})
        needed = instances_needed(sizes, compute_resources_of(variant.instance_type)) or 0
        variant.desired_count = max(variant.min_instances, needed)
        endpoint["Sizes"][variant.name] = (1.0, variant.desired_count)

    def _sizes(
        self, variant: ComponentVariant, changed: dict[str, tuple[ComponentDefinition, int]]
    ) -> list[ComputeResources]:
        """The needs of every copy on a variant; `changed` replaces some components and their copies."""
        records = {
            component_key(each): (each, int(each["CopyCount"])) for each in self._components_on(variant)
        } | changed
        return [_need(each) for each, copies in records.values() for _ in range(copies)]

    def _components_on(self, variant: ComponentVariant) -> Iterable[InferenceComponentRecord]:
        for record in self._store.components.records.values():
            here = record["EndpointName"] == variant.endpoint and record["VariantName"] == variant.name
            if here and not record["Base"] and record["InferenceComponentStatus"] != "Failed":
                yield record

    def variant(self, record: ComponentDefinition) -> ComponentVariant:
        """The variant that hosts a component; raises InstanceStartError for an endpoint not in service."""
        variant = self.find_variant(record)
        if variant is None:
            raise InstanceStartError(f"The endpoint {record['EndpointName']} is not in service.")
        return variant

    def find_variant(self, record: ComponentDefinition) -> ComponentVariant | None:
        """The variant that hosts a component; None when its endpoint is not in service."""
        live = self._deployments.live.get(record["EndpointName"].lower())
        found = live.blue.production.get(record["VariantName"]) if live and live.blue else None
        return found if isinstance(found, ComponentVariant) else None


def pool_settings(record: ComponentDefinition, host: VariantRecord) -> VariantRecord:
    """The settings of a component's copies: its own start-up limits, its host's instances and routing."""
    settings: VariantRecord = {"VariantName": record["VariantName"]}
    limits = record["Specification"].get("StartupParameters", {})
    if "ModelDataDownloadTimeoutInSeconds" in limits:
        settings["ModelDataDownloadTimeoutInSeconds"] = limits["ModelDataDownloadTimeoutInSeconds"]
    if "ContainerStartupHealthCheckTimeoutInSeconds" in limits:
        settings["ContainerStartupHealthCheckTimeoutInSeconds"] = limits[
            "ContainerStartupHealthCheckTimeoutInSeconds"
        ]
    if "InstanceType" in host:
        settings["InstanceType"] = host["InstanceType"]
    if "InstancePools" in host:
        settings["InstancePools"] = host["InstancePools"]
    if "RoutingConfig" in host:
        settings["RoutingConfig"] = host["RoutingConfig"]
    return settings


def _need(record: ComponentDefinition) -> ComputeResources:
    asked = record["Specification"]["ComputeResourceRequirements"]
    return ComputeResources(
        asked.get("NumberOfCpuCoresRequired", 0.25),
        asked["MinMemoryRequiredInMb"],
        asked.get("NumberOfAcceleratorDevicesRequired", 0),
    )


def component_key(record: ComponentDefinition) -> str:
    """How a component is found: names are unique without regard to case."""
    return str(record["InferenceComponentName"]).lower()
