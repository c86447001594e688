"""The control plane as a protocol: one JSON request in, one JSON reply out, every request checked first."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from local.sagemaker import tags
from local.sagemaker.components import operations as components
from local.sagemaker.components.host import InferenceComponents
from local.sagemaker.control_plane import endpoints, model_packages, models
from local.sagemaker.errors import AwsApiError
from local.sagemaker.instances.endpoint_deployments import EndpointDeployments
from local.sagemaker.jobs import operations as jobs_api
from local.sagemaker.jobs.kinds import PROCESSING, TRAINING
from local.sagemaker.jobs.runner import JobRunner
from local.sagemaker.ports import CloudServices
from local.sagemaker.records import JsonObject
from local.sagemaker.request_validation import service_model, validate_request
from local.sagemaker.store import Collection, SageMakerStore

TARGET_PREFIX = "SageMaker."
CONTENT_TYPE = "application/x-amz-json-1.1"

_Operation = Callable[[JsonObject], JsonObject]


class JsonResponse(NamedTuple):
    """Status and body of a control-plane reply."""

    status: int
    body: bytes


class ControlPlane:
    """SageMaker's own API, as far as the laptop cloud has it."""

    def __init__(
        self,
        store: SageMakerStore,
        deployments: EndpointDeployments,
        live: InferenceComponents,
        jobs: JobRunner,
        cloud: CloudServices,
    ) -> None:
        self.store = store
        self.operations: dict[str, _Operation] = {
            "CreateModel": lambda request: models.create_model(store, cloud, request),
            "DescribeModel": lambda request: models.describe_model(store, request),
            "ListModels": lambda request: models.list_models(store, request),
            "DeleteModel": lambda request: models.delete_model(store, request),
            "CreateEndpointConfig": lambda request: models.create_config(store, request),
            "DescribeEndpointConfig": lambda request: models.describe_config(store, request),
            "ListEndpointConfigs": lambda request: models.list_configs(store, request),
            "DeleteEndpointConfig": lambda request: models.delete_config(store, request),
            "CreateEndpoint": lambda request: endpoints.create_endpoint(store, deployments, request),
            "UpdateEndpoint": lambda request: endpoints.update_endpoint(store, deployments, request),
            "UpdateEndpointWeightsAndCapacities": lambda request: endpoints.update_weights(
                store, deployments, request
            ),
            "DescribeEndpoint": lambda request: endpoints.describe_endpoint(store, deployments, request),
            "ListEndpoints": lambda request: endpoints.list_endpoints(store, request),
            "DeleteEndpoint": lambda request: endpoints.delete_endpoint(store, deployments, request),
            "CreateTrainingJob": lambda request: jobs_api.create_training_job(store, cloud, jobs, request),
            "DescribeTrainingJob": lambda request: jobs_api.describe(TRAINING, store, request),
            "ListTrainingJobs": lambda request: jobs_api.list_jobs(TRAINING, store, request),
            "StopTrainingJob": lambda request: jobs_api.stop(TRAINING, store, jobs, request),
            "CreateProcessingJob": lambda request: jobs_api.create_processing_job(
                store, cloud, jobs, request
            ),
            "DescribeProcessingJob": lambda request: jobs_api.describe(PROCESSING, store, request),
            "ListProcessingJobs": lambda request: jobs_api.list_jobs(PROCESSING, store, request),
            "StopProcessingJob": lambda request: jobs_api.stop(PROCESSING, store, jobs, request),
            "DeleteTrainingJob": lambda request: jobs_api.delete(TRAINING, store, request),
            "DeleteProcessingJob": lambda request: jobs_api.delete(PROCESSING, store, request),
            **_component_operations(store, live),
            **_package_operations(store, cloud),
            "AddTags": lambda request: tags.add_tags(store, request),
            "ListTags": lambda request: tags.list_tags(store, request),
            "DeleteTags": lambda request: tags.delete_tags(store, request),
        }

    def call(self, operation: str, request: JsonObject) -> JsonObject:
        """Check and carry out one operation; raises AwsApiError."""
        if operation not in self.operations:
            known = operation in service_model("sagemaker").operation_names
            reason = "is not part of the laptop cloud" if known else "does not exist"
            raise AwsApiError("UnknownOperationException", f"The operation {operation} {reason}.")
        validate_request("sagemaker", operation, request)
        return self.operations[operation](request)

    def handle(self, target: str, body: bytes) -> JsonResponse:
        """Answer `X-Amz-Target: SageMaker.<Operation>` with its JSON body."""
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            return JsonResponse(
                400, AwsApiError("SerializationException", "The body is not JSON.").json_body()
            )
        try:
            answer = self.call(target.removeprefix(TARGET_PREFIX), request)
        except AwsApiError as error:
            return JsonResponse(error.status, error.json_body())
        return JsonResponse(200, json.dumps(answer).encode() if answer else b"")

    def resources(self, target: str, body: bytes) -> Sequence[str]:
        """The ARNs that a request touches, for the permission check; `*` where it names none."""
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            return ("*",)
        if not isinstance(request, dict) or target.startswith(f"{TARGET_PREFIX}List"):
            return (str(request.get("ResourceArn", "*")),) if isinstance(request, dict) else ("*",)
        if "ResourceArn" in request:
            return (str(request["ResourceArn"]),)
        named: dict[str, Collection[Any]] = {
            "EndpointName": self.store.endpoints,
            "EndpointConfigName": self.store.configs,
            "InferenceComponentName": self.store.components,
            "ModelName": self.store.models,
            "TrainingJobName": self.store.training_jobs,
            "ProcessingJobName": self.store.processing_jobs,
        }
        if "ModelPackage" in target:
            return model_packages.resource_arns(self.store, request)
        found = [kind.arn(request[key]) for key, kind in named.items() if isinstance(request.get(key), str)]
        return found or ("*",)


def _component_operations(store: SageMakerStore, live: InferenceComponents) -> dict[str, _Operation]:
    return {
        "CreateInferenceComponent": lambda request: components.create_component(store, live, request),
        "UpdateInferenceComponent": lambda request: components.update_component(store, live, request),
        "UpdateInferenceComponentRuntimeConfig": lambda request: components.update_runtime_config(
            store, live, request
        ),
        "DeleteInferenceComponent": lambda request: components.delete_component(store, live, request),
        "DescribeInferenceComponent": lambda request: components.describe_component(store, live, request),
        "ListInferenceComponents": lambda request: components.list_components(store, request),
    }


def _package_operations(store: SageMakerStore, cloud: CloudServices) -> dict[str, _Operation]:
    def announce(detail_type: str, detail: JsonObject, arn: str) -> None:
        cloud.emit_event(detail_type, detail, [arn])

    return {
        "CreateModelPackageGroup": lambda request: model_packages.create_group(store, request),
        "DescribeModelPackageGroup": lambda request: model_packages.describe_group(store, request),
        "ListModelPackageGroups": lambda request: model_packages.list_groups(store, request),
        "DeleteModelPackageGroup": lambda request: model_packages.delete_group(store, request),
        "CreateModelPackage": lambda request: model_packages.create_package(store, announce, request),
        "DescribeModelPackage": lambda request: model_packages.describe_package(store, request),
        "BatchDescribeModelPackage": lambda request: model_packages.batch_describe_packages(store, request),
        "ListModelPackages": lambda request: model_packages.list_packages(store, request),
        "UpdateModelPackage": lambda request: model_packages.update_package(store, announce, request),
        "DeleteModelPackage": lambda request: model_packages.delete_package(store, request),
    }
