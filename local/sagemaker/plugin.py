"""Registers SageMaker with the laptop cloud: its two APIs, its CloudFormation types, its state.

The only module of this package that knows the emulator, through `local.cloud.ministack_adapter`.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud import ministack_adapter
from local.cloud.config import CloudConfig
from local.home import SECRET
from local.sagemaker import cloudformation
from local.sagemaker.cloudformation import COMPONENT, ENDPOINT, ResourceKind
from local.sagemaker.control_plane import api, instance_inventory
from local.sagemaker.data_plane.runtime_api import operation_of
from local.sagemaker.execution_role import ExecutionRole, ExecutionRoleError
from local.sagemaker.instances import fault_injection
from local.sagemaker.instances.images import default_programs
from local.sagemaker.object_keys import ask_keys
from local.sagemaker.ports import RoleCredentials
from local.sagemaker.request_validation import service_model
from local.sagemaker.service import SageMakerService, SageMakerSettings
from local.sagemaker.store import Identity

ResultT = TypeVar("ResultT")

SERVICE = "sagemaker"
RUNTIME_SERVICE = "sagemaker-runtime"
_PRINCIPAL = "sagemaker.amazonaws.com"
_LOOPBACK = ("127.0.0.1", "::1")
_LOOPBACK_NAMES = ("127.0.0.1", "localhost")
_CREATE_ONLY = {
    ENDPOINT: ("EndpointName",),
    COMPONENT: ("InferenceComponentName", "EndpointName", "VariantName"),
}
_REPOSITORY_ROOT = Path(__file__).resolve().parents[2]
_CLIENT_CONFIG = Config(
    connect_timeout=5, read_timeout=60, retries={"max_attempts": 3}, s3={"addressing_style": "path"}
)
# A deployment's own limits end it sooner; this one only keeps a thread from waiting for ever.
_CALL_SECONDS = cloudformation.WAIT_SECONDS + 60


class _EmulatedCloud:
    """`ports.CloudServices` by means of the ministack_adapter."""

    def __init__(self, config: CloudConfig) -> None:
        self.endpoint_url = config.endpoint_url
        self._config = config
        operator = RoleCredentials(config.account, SECRET, "")
        self._operator = functools.cache(lambda service: self._client(service, operator))
        self._identity = Identity(config.account, config.region)

    def put_metric_data(self, namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
        ministack_adapter.put_metric_data(namespace, data)

    def put_log_events(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
        ministack_adapter.put_log_events(group, stream, events)

    def emit_event(self, detail_type: str, detail: Mapping[str, Any], resources: Sequence[str]) -> None:
        ministack_adapter.emit_event("aws.sagemaker", detail_type, detail, resources)

    def role_credentials(self, role_arn: str) -> RoleCredentials:
        found = ministack_adapter.role_credentials(role_arn, "SageMaker", service=_PRINCIPAL)
        return RoleCredentials(*found, role_arn=role_arn)

    def role_allows(self, role_arn: str, action: str, resource: str, context: Mapping[str, str]) -> bool:
        return ministack_adapter.role_allows(role_arn, action, resource, context)

    def log_group_exists(self, group: str) -> bool:
        return ministack_adapter.log_group_exists(group)

    async def alarms_in_alarm(self, names: Sequence[str]) -> list[str]:
        return await asyncio.to_thread(self._alarms_in_alarm, names)

    def _alarms_in_alarm(self, names: Sequence[str]) -> list[str]:
        ministack_adapter.evaluate_alarms()
        found = self._operator("cloudwatch").describe_alarms(AlarmNames=list(names), StateValue="ALARM")
        kinds = ("MetricAlarms", "CompositeAlarms")
        return [alarm["AlarmName"] for kind in kinds for alarm in found.get(kind, [])]

    def publish(self, credentials: RoleCredentials, topic_arn: str, message: str) -> None:
        attributes = self._operator("sns").get_topic_attributes(TopicArn=topic_arn)["Attributes"]
        if key := attributes.get("KmsMasterKeyId"):
            self._use_topic_key(credentials, key)
        self._client("sns", credentials).publish(TopicArn=topic_arn, Message=message)

    def _use_topic_key(self, credentials: RoleCredentials, key: str) -> None:
        role = ExecutionRole(credentials.role_arn, self, self._identity)
        try:
            for action in ("kms:GenerateDataKey", "kms:Decrypt"):
                role.use_key(action, key, "sns")
        except ExecutionRoleError as error:
            refusal = {"Error": {"Code": "KMSAccessDenied", "Message": str(error)}}
            raise ClientError(refusal, "Publish") from None

    def s3(self, credentials: RoleCredentials) -> Any:
        """An S3 client that acts as an execution role, and asks the keys as S3 does."""
        client = self._client("s3", credentials)
        ask_keys(client, ExecutionRole(credentials.role_arn, self, self._identity), self._bucket_key)
        return client

    def _bucket_key(self, bucket: str) -> str | None:
        try:
            found = self._operator("s3").get_bucket_encryption(Bucket=bucket)
        except ClientError:  # it has none, or there is no bucket: the request itself will say so
            return None
        rule = found["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"]
        key: str | None = rule.get("KMSMasterKeyID")
        return key

    def _client(self, service: str, credentials: RoleCredentials) -> Any:
        # A session of its own: boto3's default session is not safe to share between threads.
        return boto3.session.Session().client(
            service,
            endpoint_url=self.endpoint_url,
            region_name=self._config.region,
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            aws_session_token=credentials.session_token or None,
            config=_CLIENT_CONFIG,
        )


def register(config: CloudConfig) -> SageMakerService:
    """Make SageMaker part of the cloud, and answer it. Call before the server starts."""
    cloud = _EmulatedCloud(config)
    settings = SageMakerSettings(
        identity=Identity(config.account, config.region),
        folder=config.folder / "sagemaker",
        images=default_programs(config.venvs, _REPOSITORY_ROOT),
        s3=cloud.s3,
    )
    sagemaker = SageMakerService(settings, cloud, config.processes)
    for service in (SERVICE, RUNTIME_SERVICE):
        service_model(service)  # read now: it takes a second that no request should wait
    _register_control_plane(sagemaker)
    _register_runtime(sagemaker)
    _register_inventory(sagemaker)
    _register_faults(sagemaker)
    resources = cloudformation.SageMakerResources(sagemaker)
    for kind in cloudformation.KINDS:
        _register_type(kind, resources)
    ministack_adapter.add_state(SERVICE, sagemaker.dump, sagemaker.load)
    ministack_adapter.on_startup(sagemaker.start)
    ministack_adapter.on_shutdown(sagemaker.stop)
    return sagemaker


def _register_control_plane(sagemaker: SageMakerService) -> None:
    async def handle(request: ministack_adapter.HttpRequest) -> ministack_adapter.HttpResponse:
        answer = sagemaker.control.handle(_target(request), request.body)
        return ministack_adapter.HttpResponse(answer.status, {"Content-Type": api.CONTENT_TYPE}, answer.body)

    def permission(request: ministack_adapter.HttpRequest) -> ministack_adapter.Permission:
        target = _target(request)
        operation = target.removeprefix(api.TARGET_PREFIX)
        return ministack_adapter.Permission(
            f"{SERVICE}:{operation}", sagemaker.control.resources(target, request.body)
        )

    ministack_adapter.add_service(
        SERVICE, handler=handle, target_prefix=api.TARGET_PREFIX, permission=permission
    )


def _target(request: ministack_adapter.HttpRequest) -> str:
    # A request that is only signed for SageMaker and names no operation is refused as an unknown one.
    return request.headers.get("x-amz-target", "")


def _register_runtime(sagemaker: SageMakerService) -> None:
    async def handle(request: ministack_adapter.HttpRequest) -> ministack_adapter.HttpResponse:
        reply = await sagemaker.runtime.handle(request.path, request.headers, request.body)
        body = (
            reply.body if isinstance(reply.body, bytes) else ministack_adapter.StreamingResponse(reply.body)
        )
        return ministack_adapter.HttpResponse(reply.status, dict(reply.headers), body)

    def permission(request: ministack_adapter.HttpRequest) -> ministack_adapter.Permission:
        found = operation_of(request.path)
        if found is None:
            raise ValueError(f"{request.path} is no path of the runtime")  # `matches` lets none through
        operation, endpoint = found
        arns = [sagemaker.store.endpoints.arn(endpoint)]
        if component := request.headers.get("x-amzn-sagemaker-inference-component"):
            arns.append(sagemaker.store.components.arn(component))
        return ministack_adapter.Permission(f"{SERVICE}:{operation}", tuple(arns))

    ministack_adapter.add_service(
        RUNTIME_SERVICE,
        handler=handle,
        matches=lambda method, path, _headers: method == "POST" and operation_of(path) is not None,
        permission=permission,
    )


def _register_inventory(sagemaker: SageMakerService) -> None:
    async def handle(request: ministack_adapter.HttpRequest) -> ministack_adapter.HttpResponse:
        if request.method != "GET" or request.path != instance_inventory.PATH:
            return ministack_adapter.HttpResponse(404, {"Content-Type": "text/plain"}, b"no such page")
        found = instance_inventory.instances(sagemaker.store, sagemaker.deployments, sagemaker.components)
        return ministack_adapter.HttpResponse(
            200, {"Content-Type": "application/json"}, json.dumps(found).encode()
        )

    ministack_adapter.add_http_route(instance_inventory.PATH, handle)


def _register_faults(sagemaker: SageMakerService) -> None:
    async def handle(request: ministack_adapter.HttpRequest) -> ministack_adapter.HttpResponse:
        # Only programs of this machine: a page in its browser cannot send JSON without a preflight.
        host = request.headers.get("host", "").rpartition(":")[0]
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if request.client_ip not in _LOOPBACK or host not in _LOOPBACK_NAMES or "origin" in request.headers:
            return _json(403, {"error": "Faults are made from this machine only, at 127.0.0.1."})
        if request.method == "POST" and kind != "application/json":
            return _json(415, {"error": "The Content-Type must be application/json."})
        return _json(
            *fault_injection.handle_admin_request(
                sagemaker.faults, request.method, request.path, request.body, sagemaker.kill
            )
        )

    ministack_adapter.add_http_route(fault_injection.PATH, handle, max_body_bytes=10_000)


def _json(status: int, body: Any) -> ministack_adapter.HttpResponse:
    return ministack_adapter.HttpResponse(
        status, {"Content-Type": "application/json"}, json.dumps(body).encode()
    )


def _register_type(kind: ResourceKind, resources: cloudformation.SageMakerResources) -> None:
    def wait(work: Coroutine[Any, Any, ResultT]) -> ResultT:
        result: ResultT = ministack_adapter.run_on_event_loop(work, _CALL_SECONDS)
        return result

    def create(logical_id: str, properties: dict[str, Any], _stack: str) -> tuple[str, dict[str, Any]]:
        return wait(resources.create(kind, logical_id, properties))

    def update(
        physical_id: str, old: dict[str, Any], new: dict[str, Any], _stack: str
    ) -> tuple[str, dict[str, Any]]:
        if kind is ENDPOINT:
            return wait(resources.update_endpoint(physical_id, old, new))
        if kind is COMPONENT:
            return wait(resources.update_component(physical_id, old, new))
        return wait(resources.retag(kind, physical_id, new))

    def delete(physical_id: str, _properties: dict[str, Any]) -> None:
        wait(resources.delete(kind, physical_id))

    create_only = _CREATE_ONLY.get(kind, ("*",))
    ministack_adapter.add_resource_type(
        kind.type_name, create=create, update=update, delete=delete, create_only=create_only
    )
