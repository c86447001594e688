"""AWS::SageMaker::Model, EndpointConfig, Endpoint and their kin, through the API's own control plane.

CloudFormation's property names are the API's. Endpoints and inference components are updated in place and are
done when they are in service again; the others are replaced on any change. The functions are coroutines on
the service's event loop; the plug-in runs them from CloudFormation's worker threads.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from local.sagemaker.errors import AwsApiError
from local.sagemaker.records import JsonObject
from local.sagemaker.request_validation import service_model
from local.sagemaker.service import SageMakerService
from local.sagemaker.store import Collection

WAIT_SECONDS = 1800.0
_NAME_LIMIT = 63
_BOOLEANS = {"true": True, "false": False}

CreatedResource = tuple[str, dict[str, str]]


class ResourceFailedError(Exception):
    """The reason CloudFormation shows for a resource that could not be created or updated."""


@dataclass(frozen=True)
class ResourceKind:
    """How a resource type maps onto the API: `noun` makes the operation and the name field."""

    type_name: str
    noun: str
    arn_field: str
    arn_is_attribute: bool = False

    @property
    def name_field(self) -> str:
        """The property that holds the resource's name, which is also a GetAtt attribute."""
        return f"{self.noun}Name"


MODEL = ResourceKind("AWS::SageMaker::Model", "Model", "ModelArn")
CONFIG = ResourceKind("AWS::SageMaker::EndpointConfig", "EndpointConfig", "EndpointConfigArn")
ENDPOINT = ResourceKind("AWS::SageMaker::Endpoint", "Endpoint", "EndpointArn")
GROUP = ResourceKind(
    "AWS::SageMaker::ModelPackageGroup",
    "ModelPackageGroup",
    "ModelPackageGroupArn",
    arn_is_attribute=True,
)
COMPONENT = ResourceKind(
    "AWS::SageMaker::InferenceComponent",
    "InferenceComponent",
    "InferenceComponentArn",
    arn_is_attribute=True,
)
KINDS = (MODEL, CONFIG, ENDPOINT, GROUP, COMPONENT)
_LIVE = (ENDPOINT, COMPONENT)


class SageMakerResources:
    """Creates, updates and deletes resources for CloudFormation. The physical id is the ARN, as on AWS."""

    def __init__(self, sagemaker: SageMakerService) -> None:
        self._sagemaker = sagemaker

    async def create(self, kind: ResourceKind, logical_id: str, properties: JsonObject) -> CreatedResource:
        """Physical id and attributes of a new resource; an endpoint is in service when this returns."""
        operation = f"Create{kind.noun}"
        request = self._request(operation, properties)
        request.setdefault(kind.name_field, _generated_name(logical_id))
        name = request[kind.name_field]
        arn = self._call(operation, request)[kind.arn_field]
        if kind in _LIVE:
            try:
                await self._wait_in_service(kind, name)
            except (ResourceFailedError, TimeoutError):
                # A failed resource leaves nothing behind, or its name would stay taken.
                await self.delete(kind, arn)
                raise
        return arn, _attributes(kind, name, arn)

    async def update_endpoint(self, physical_id: str, old: JsonObject, new: JsonObject) -> CreatedResource:
        """Move an endpoint to its new properties; returns when it is in service with them."""
        name = self._name(ENDPOINT, physical_id)
        if {key: old.get(key) for key in old if key != "Tags"} != {
            key: new.get(key) for key in new if key != "Tags"
        }:
            request = self._request("UpdateEndpoint", {**new, "EndpointName": name})
            self._call("UpdateEndpoint", request)
            await self._wait_in_service(ENDPOINT, name)
        self._retag(physical_id, new)
        return physical_id, {"EndpointName": name}

    async def update_component(self, physical_id: str, old: JsonObject, new: JsonObject) -> CreatedResource:
        """Change an inference component: only its copies if only they differ, otherwise all of it."""
        name = self._name(COMPONENT, physical_id)
        changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)} - {"Tags"}
        if changed == {"RuntimeConfig"}:
            wanted = {"InferenceComponentName": name, "DesiredRuntimeConfig": new["RuntimeConfig"]}
            operation = "UpdateInferenceComponentRuntimeConfig"
            self._call(operation, self._request(operation, wanted))
            await self._wait_in_service(COMPONENT, name)
        elif changed:
            fields = ("Specification", "RuntimeConfig", "DeploymentConfig")
            wanted = {field: new[field] for field in fields if field in new}
            request = self._request("UpdateInferenceComponent", {**wanted, "InferenceComponentName": name})
            self._call("UpdateInferenceComponent", request)
            await self._wait_in_service(COMPONENT, name)
        self._retag(physical_id, new)
        return physical_id, _attributes(COMPONENT, name, physical_id)

    async def retag(self, kind: ResourceKind, physical_id: str, new: JsonObject) -> CreatedResource:
        """An update that changes nothing but tags."""
        self._retag(physical_id, new)
        return physical_id, _attributes(kind, self._name(kind, physical_id), physical_id)

    async def delete(self, kind: ResourceKind, physical_id: str) -> None:
        """Delete a resource and wait until its processes have ended; one that is gone is no error."""
        name = self._name(kind, physical_id)
        if self._collection(kind).find(name) is None:
            return
        if kind in _LIVE:
            await self._wait(kind, name)
        self._call(f"Delete{kind.noun}", {kind.name_field: name})
        if kind in _LIVE:
            await self._wait(kind, name)

    async def _wait_in_service(self, kind: ResourceKind, name: str) -> None:
        await self._wait(kind, name)
        record = self._collection(kind).get(name)
        status = record[f"{kind.noun}Status"]
        if status != "InService" or "FailureReason" in record:
            raise ResourceFailedError(record.get("FailureReason", f"{kind.noun} {name} is {status}."))

    async def _wait(self, kind: ResourceKind, name: str) -> None:
        sagemaker = self._sagemaker
        live = sagemaker.deployments if kind is ENDPOINT else sagemaker.components
        async with asyncio.timeout(WAIT_SECONDS):
            await live.wait(name)

    def _call(self, operation: str, request: JsonObject) -> JsonObject:
        try:
            return self._sagemaker.control.call(operation, request)
        except AwsApiError as error:
            raise ResourceFailedError(
                f"{error.message} (Service: SageMaker, Status Code: {error.status})"
            ) from error

    def _retag(self, arn: str, properties: JsonObject) -> None:
        tags = self._sagemaker.store.tags
        wanted = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", []) if is_template_tag(tag)}
        if wanted or arn in tags:
            tags[arn] = wanted

    def _request(self, operation: str, properties: JsonObject) -> JsonObject:
        shape = service_model("sagemaker").operation_model(operation).input_shape
        request = dict(properties)
        if operation == "UpdateEndpoint":
            request.pop("Tags", None)  # a call of its own
        if "Tags" in request:
            # CloudFormation's own aws: tags are the service's to set, not a caller's.
            request["Tags"] = [tag for tag in request["Tags"] if is_template_tag(tag)]
        if operation == "CreateInferenceComponent":
            request.pop("DeploymentConfig", None)  # it speaks of updates only
        if operation == "CreateEndpoint":
            for name in (
                "RetainAllVariantProperties",
                "ExcludeRetainedVariantProperties",
                "RetainDeploymentConfig",
            ):
                request.pop(name, None)  # they speak of updates only
        coerced: JsonObject = coerce_types(request, shape)
        return coerced

    def _name(self, kind: ResourceKind, physical_id: str) -> str:
        """The name behind an ARN, spelled as it was given."""
        name = physical_id.rpartition("/")[2]
        record = self._collection(kind).find(name)
        return record[kind.name_field] if record else name

    def _collection(self, kind: ResourceKind) -> Collection[Any]:
        store = self._sagemaker.store
        collections: tuple[Collection[Any], ...] = (
            store.models, store.configs, store.endpoints, store.package_groups, store.components,
        )  # fmt: skip
        return dict(zip(KINDS, collections, strict=True))[kind]


def _attributes(kind: ResourceKind, name: str, arn: str) -> dict[str, str]:
    return {kind.name_field: name} | ({kind.arn_field: arn} if kind.arn_is_attribute else {})


def coerce_types(value: Any, shape: Shape) -> Any:
    """A property in the API's type: templates carry numbers and booleans as strings, too."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        members = shape.members
        return {
            name: coerce_types(item, members[name]) if name in members else item
            for name, item in value.items()
            if item is not None
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [coerce_types(item, shape.member) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {name: coerce_types(item, shape.value) for name, item in value.items()}
    return _scalar(value, shape.type_name)


def _scalar(value: Any, type_name: str) -> Any:
    if type_name == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return value
    try:
        if type_name in ("integer", "long"):
            return int(value)
        if type_name in ("float", "double"):
            return float(value)
    except ValueError:
        return value  # left for the check of the request to complain about
    return _BOOLEANS.get(value.lower(), value) if type_name == "boolean" else value


def is_template_tag(tag: dict[str, str]) -> bool:
    """Whether a tag is the template's, not CloudFormation's."""
    return not tag["Key"].lower().startswith("aws:")


def _generated_name(logical_id: str) -> str:
    suffix = f"-{secrets.token_hex(6)}"
    return logical_id[: _NAME_LIMIT - len(suffix)] + suffix
