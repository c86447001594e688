"""`ports.ScalableResources` over SageMaker's own API: its variants and inference components."""

from __future__ import annotations

import re

from local.autoscaling.ports import ResourceBusyError, ScalableResource
from local.sagemaker.errors import AwsApiError, invalid
from local.sagemaker.records import EndpointRecord, InferenceComponentRecord, JsonObject, VariantRecord
from local.sagemaker.service import SageMakerService

INSTANCE_COUNT = "sagemaker:variant:DesiredInstanceCount"
COPY_COUNT = "sagemaker:inference-component:DesiredCopyCount"
PROVISIONED_CONCURRENCY = "sagemaker:variant:DesiredProvisionedConcurrency"
_VARIANT = re.compile(r"^endpoint/(?P<endpoint>[^/]+)/variant/(?P<variant>[^/]+)$")
_COMPONENT = re.compile(r"^inference-component/(?P<name>[^/]+)$")


class SageMakerScalableResources:
    """Instance counts and provisioned concurrency of variants, copy counts of inference components."""

    def __init__(self, sagemaker: SageMakerService) -> None:
        self._sagemaker = sagemaker

    def scalable(self, resource_id: str, dimension: str) -> ScalableResource:
        """See `ports.ScalableResources`."""
        if dimension == COPY_COUNT:
            component = self._component(resource_id)
            if "BaseInferenceComponentName" in component["Specification"]:
                raise invalid("An adapter inference component has no copies of its own to scale.")
            return ScalableResource(0, {"InferenceComponentName": component["InferenceComponentName"]})
        endpoint, variant = self._variant(resource_id, dimension)
        name = variant["VariantName"]
        if dimension == PROVISIONED_CONCURRENCY:
            if "ProvisionedConcurrency" not in variant.get("ServerlessConfig", {}):
                raise invalid(f"Variant {name} has no provisioned concurrency to scale.")
            dimensions = {"EndpointName": endpoint["EndpointName"], "VariantName": name}
            return ScalableResource(1, dimensions, variant["ServerlessConfig"]["MaxConcurrency"])
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
        min_capacity = 0 if "AsyncInferenceConfig" in endpoint["Config"] else 1
        return ScalableResource(min_capacity, {"EndpointName": endpoint["EndpointName"], "VariantName": name})

    def capacity(self, resource_id: str, dimension: str) -> int:
        """See `ports.ScalableResources`."""
        if dimension == COPY_COUNT:
            return int(self._component(resource_id)["CopyCount"])
        endpoint, variant = self._variant(resource_id, dimension)
        if dimension == PROVISIONED_CONCURRENCY:
            return int(variant["ServerlessConfig"]["ProvisionedConcurrency"])
        return int(endpoint["Sizes"][variant["VariantName"]][1])

    async def set_capacity(self, resource_id: str, dimension: str, capacity: int) -> None:
        """See `ports.ScalableResources`."""
        control = self._sagemaker.control
        if dimension == COPY_COUNT:
            component = self._component(resource_id)
            name = component["InferenceComponentName"]
            if component["InferenceComponentStatus"] != "InService":
                raise ResourceBusyError(
                    f"The inference component is {component['InferenceComponentStatus']}."
                )
            copies = {"InferenceComponentName": name, "DesiredRuntimeConfig": {"CopyCount": capacity}}
            control.call("UpdateInferenceComponentRuntimeConfig", copies)
            await self._sagemaker.components.wait(name)
            _raise_failure(self._component(resource_id))
            return
        endpoint, variant = self._variant(resource_id, dimension)
        if endpoint["EndpointStatus"] != "InService":
            raise ResourceBusyError(f"The endpoint is {endpoint['EndpointStatus']}.")
        change: JsonObject = (
            {"ServerlessUpdateConfig": {"ProvisionedConcurrency": capacity}}
            if dimension == PROVISIONED_CONCURRENCY
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

    def _variant(self, resource_id: str, dimension: str) -> tuple[EndpointRecord, VariantRecord]:
        match = _VARIANT.match(resource_id)
        if match is None or dimension not in (INSTANCE_COUNT, PROVISIONED_CONCURRENCY):
            raise _unknown(resource_id, dimension)
        endpoint = self._sagemaker.store.endpoints.get(match["endpoint"])
        for variant in endpoint["Config"]["ProductionVariants"]:
            if variant["VariantName"] == match["variant"]:
                return endpoint, variant
        raise invalid(f"The variant name(s) {match['variant']} is/are not present in the endpoint.")

    def _component(self, resource_id: str) -> InferenceComponentRecord:
        match = _COMPONENT.match(resource_id)
        if match is None:
            raise _unknown(resource_id, COPY_COUNT)
        return self._sagemaker.store.components.get(match["name"])


def _raise_failure(record: EndpointRecord | InferenceComponentRecord) -> None:
    if "FailureReason" in record:
        raise invalid(record["FailureReason"])


def _unknown(resource_id: str, dimension: str) -> AwsApiError:
    return invalid(
        "Unsupported service namespace, resource type or scalable dimension: sagemaker, "
        f"{resource_id}, {dimension}"
    )
