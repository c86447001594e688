"""SageMaker's variants and inference components as things that are scaled: `ports.Fleets` by its own API."""

from __future__ import annotations

import re

from local.autoscaling.ports import Busy, Scalable
from local.sagemaker.errors import ApiError, invalid
from local.sagemaker.service import SageMaker
from local.sagemaker.store import Record

INSTANCES = "sagemaker:variant:DesiredInstanceCount"
COPIES = "sagemaker:inference-component:DesiredCopyCount"
READY = "sagemaker:variant:DesiredProvisionedConcurrency"
_VARIANT = re.compile(r"^endpoint/(?P<endpoint>[^/]+)/variant/(?P<variant>[^/]+)$")
_COMPONENT = re.compile(r"^inference-component/(?P<name>[^/]+)$")


class SageMakerFleets:
    """Instance counts and provisioned concurrency of variants, copy counts of inference components."""

    def __init__(self, sagemaker: SageMaker) -> None:
        self._sagemaker = sagemaker

    def scalable(self, resource_id: str, dimension: str) -> Scalable:
        """See `ports.Fleets`."""
        if dimension == COPIES:
            component = self._component(resource_id)
            if "BaseInferenceComponentName" in component["Specification"]:
                raise invalid("An adapter inference component has no copies of its own to scale.")
            return Scalable(0, {"InferenceComponentName": component["InferenceComponentName"]})
        endpoint, variant = self._variant(resource_id, dimension)
        name = variant["VariantName"]
        if dimension == READY:
            if "ProvisionedConcurrency" not in variant.get("ServerlessConfig", {}):
                raise invalid(f"Variant {name} has no provisioned concurrency to scale.")
            dimensions = {"EndpointName": endpoint["EndpointName"], "VariantName": name}
            return Scalable(1, dimensions, variant["ServerlessConfig"]["MaxConcurrency"])
        if "ServerlessConfig" in variant:
            raise invalid(f"Variant {name} is serverless: it has no instance count to scale.")
        if not variant.get("ModelName"):
            raise invalid(
                f"Variant {name} hosts inference components: scale their copies, and its instances with "
                "ManagedInstanceScaling."
            )
        if variant["InstanceType"].startswith("ml.t"):
            raise invalid(
                f"Autoscaling is not supported for burstable instances such as {variant['InstanceType']}."
            )
        least = 0 if "AsyncInferenceConfig" in endpoint["Config"] else 1
        return Scalable(least, {"EndpointName": endpoint["EndpointName"], "VariantName": name})

    def capacity(self, resource_id: str, dimension: str) -> int:
        """See `ports.Fleets`."""
        if dimension == COPIES:
            return int(self._component(resource_id)["CopyCount"])
        endpoint, variant = self._variant(resource_id, dimension)
        if dimension == READY:
            return int(variant["ServerlessConfig"]["ProvisionedConcurrency"])
        return int(endpoint["Sizes"][variant["VariantName"]][1])

    async def set_capacity(self, resource_id: str, dimension: str, capacity: int) -> None:
        """See `ports.Fleets`."""
        control = self._sagemaker.control
        if dimension == COPIES:
            component = self._component(resource_id)
            name = component["InferenceComponentName"]
            if component["InferenceComponentStatus"] != "InService":
                raise Busy(f"The inference component is {component['InferenceComponentStatus']}.")
            copies = {"InferenceComponentName": name, "DesiredRuntimeConfig": {"CopyCount": capacity}}
            control.call("UpdateInferenceComponentRuntimeConfig", copies)
            await self._sagemaker.components.wait(name)
            _raise_failure(self._component(resource_id))
            return
        endpoint, variant = self._variant(resource_id, dimension)
        if endpoint["EndpointStatus"] != "InService":
            raise Busy(f"The endpoint is {endpoint['EndpointStatus']}.")
        change: Record = (
            {"ServerlessUpdateConfig": {"ProvisionedConcurrency": capacity}}
            if dimension == READY
            else {"DesiredInstanceCount": capacity}
        )
        wanted = {"VariantName": variant["VariantName"], **change}
        name = endpoint["EndpointName"]
        control.call(
            "UpdateEndpointWeightsAndCapacities",
            {"EndpointName": name, "DesiredWeightsAndCapacities": [wanted]},
        )
        await self._sagemaker.deployments.wait(name)
        _raise_failure(endpoint)

    def _variant(self, resource_id: str, dimension: str) -> tuple[Record, Record]:
        match = _VARIANT.match(resource_id)
        if match is None or dimension not in (INSTANCES, READY):
            raise _unknown(resource_id, dimension)
        endpoint = self._sagemaker.store.endpoints.get(match["endpoint"])
        for variant in endpoint["Config"]["ProductionVariants"]:
            if variant["VariantName"] == match["variant"]:
                return endpoint, variant
        raise invalid(f"The variant name(s) {match['variant']} is/are not present in the endpoint.")

    def _component(self, resource_id: str) -> Record:
        match = _COMPONENT.match(resource_id)
        if match is None:
            raise _unknown(resource_id, COPIES)
        return self._sagemaker.store.components.get(match["name"])


def _raise_failure(record: Record) -> None:
    if "FailureReason" in record:
        raise invalid(record["FailureReason"])


def _unknown(resource_id: str, dimension: str) -> ApiError:
    return invalid(
        "Unsupported service namespace, resource type or scalable dimension: sagemaker, "
        f"{resource_id}, {dimension}"
    )
