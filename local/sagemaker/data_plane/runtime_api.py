"""The data plane: InvokeEndpoint, InvokeEndpointWithResponseStream and InvokeEndpointAsync.

Checks the request, picks a variant and an instance, passes on what a container may see, and turns whatever
comes back into the service's replies, errors and metrics. The reply's pieces are forwarded as they arrive.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx

from local.sagemaker.components.host import InferenceComponents
from local.sagemaker.data_plane import event_stream
from local.sagemaker.data_plane.async_inference import AsyncInferenceQueue
from local.sagemaker.data_plane.container_call import (
    ContainerCall,
    ContainerRequest,
    ContainerUnreachableError,
)
from local.sagemaker.data_plane.response_stream import ResponseStream
from local.sagemaker.data_plane.shadow_traffic import ShadowTraffic
from local.sagemaker.errors import AwsApiError, unavailable
from local.sagemaker.instances.endpoint_deployments import EndpointDeployments
from local.sagemaker.instances.metrics import MetricBuffer
from local.sagemaker.instances.pool import VariantPool
from local.sagemaker.records import EndpointRecord, JsonObject
from local.sagemaker.request_validation import service_model, validate_request
from local.sagemaker.store import SageMakerStore

MAX_BODY_BYTES = 6 * 1024 * 1024
_PATH = re.compile(
    r"^/endpoints/(?P<name>[^/]+)/(?P<kind>invocations|invocations-response-stream|async-invocations)$"
)
_OPERATIONS = {
    "invocations": "InvokeEndpoint",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
    "async-invocations": "InvokeEndpointAsync",
}
_UNSUPPORTED = ("TargetModel", "TargetContainerHostname", "EnableExplanations", "PrefixAwareId")
# What reaches the container; every other header of the caller is dropped.
_TO_CONTAINER = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
    "InferenceId": "X-Amzn-SageMaker-Inference-Id",
    "SessionId": "X-Amzn-SageMaker-Session-Id",
}
_FROM_CONTAINER = (
    "X-Amzn-SageMaker-Custom-Attributes",
    "X-Amzn-SageMaker-New-Session-Id",
    "X-Amzn-SageMaker-Closed-Session-Id",
)
_LIVE_STATUSES = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack"})
_DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class RuntimeResponse:
    """What goes back to the caller; the body is whole or an iterator that must be exhausted or closed."""

    status: int
    headers: dict[str, str]
    body: bytes | AsyncIterator[bytes]


@dataclass(frozen=True)
class CheckedInvocation:
    """A checked request; `received` is on the clock of `time.perf_counter`."""

    endpoint: EndpointRecord
    target_variant: str | None
    component: str | None
    request: ContainerRequest
    received: float


def operation_of(path: str) -> tuple[str, str] | None:
    """Operation and endpoint name of a runtime path; None for any other path."""
    match = _PATH.match(path)
    return (_OPERATIONS[match["kind"]], match["name"]) if match else None


class RuntimeApi:
    """Answers the requests of SageMaker Runtime."""

    def __init__(
        self,
        store: SageMakerStore,
        deployments: EndpointDeployments,
        components: InferenceComponents,
        queue: AsyncInferenceQueue,
        client: httpx.AsyncClient,
        metric_buffer: MetricBuffer,
    ) -> None:
        """Make the API.

        Args:
            store: The records of endpoints and inference components.
            deployments: The live endpoints.
            components: The live inference components.
            queue: Takes asynchronous requests.
            client: Sends requests to containers.
            metric_buffer: Gets the metrics of each request.
        """
        self._store = store
        self._components = components
        self._queue = queue
        self._deployments = deployments
        self._client = client
        self._metric_buffer = metric_buffer
        self.shadow_traffic = ShadowTraffic(client, metric_buffer, store.identity)

    async def handle(self, path: str, headers: Mapping[str, str], body: bytes) -> RuntimeResponse:
        """Answer a POST; `headers` has lower-case names. Never raises AwsApiError: it becomes the reply."""
        try:
            parsed = self._parse(path, headers, body)
            return parsed if isinstance(parsed, RuntimeResponse) else await self._invoke(parsed)
        except AwsApiError as error:
            headers_out = {"Content-Type": "application/json", "x-amzn-ErrorType": error.code}
            return RuntimeResponse(error.status, headers_out, error.rest_body())

    def _parse(
        self, path: str, headers: Mapping[str, str], body: bytes
    ) -> CheckedInvocation | RuntimeResponse:
        """A checked request, or the whole reply to one that is only queued."""
        received = time.perf_counter()
        found = operation_of(path)
        if found is None:
            raise AwsApiError("UnknownOperationException", f"No runtime operation has the path {path}.", 404)
        operation, name = found
        if len(body) > MAX_BODY_BYTES:
            raise AwsApiError("413", f"HTTP content length exceeded {MAX_BODY_BYTES} bytes.", 413)
        shape = service_model("sagemaker-runtime").operation_model(operation).input_shape
        params: dict[str, Any] = {
            member: _typed_header(headers[part.serialization["name"].lower()], part.type_name)
            for member, part in shape.members.items()
            if part.serialization.get("location") == "header"
            and part.serialization["name"].lower() in headers
        }
        try:
            validate_request("sagemaker-runtime", operation, {**params, "EndpointName": name, "Body": body})
        except AwsApiError as error:
            raise AwsApiError("ValidationError", error.message) from None
        for unsupported in _UNSUPPORTED:
            if unsupported in params:
                raise AwsApiError("ValidationError", f"{unsupported} is not allowed for endpoint {name}.")
        record = self._store.endpoints.find(name)
        if record is None or record["EndpointStatus"] not in _LIVE_STATUSES:
            account = self._store.identity.account
            raise AwsApiError("ValidationError", f"Endpoint {name} of account {account} not found.")
        if operation == "InvokeEndpointAsync":
            return self._enqueue(record, params, body)
        if "AsyncInferenceConfig" in record["Config"]:
            raise AwsApiError(
                "ValidationError",
                f"Endpoint {name} is asynchronous: it takes InvokeEndpointAsync and no other call.",
            )
        headers_out = {"Content-Type": _DEFAULT_TYPE, "Accept": "*/*"} | {
            header: params[name] for name, header in _TO_CONTAINER.items() if name in params
        }
        streamed = operation == "InvokeEndpointWithResponseStream"
        request = ContainerRequest(record["EndpointName"], headers_out, body, streamed)
        return CheckedInvocation(
            record, params.get("TargetVariant"), params.get("InferenceComponentName"), request, received
        )

    def _enqueue(self, endpoint: EndpointRecord, params: JsonObject, body: bytes) -> RuntimeResponse:
        if "AsyncInferenceConfig" not in endpoint["Config"]:
            name = endpoint["EndpointName"]
            raise AwsApiError("ValidationError", f"Endpoint {name} does not support asynchronous inference.")
        answer = self._queue.submit(endpoint, params, body)
        headers = {"Content-Type": "application/json"}
        for member, header in (("OutputLocation", "OutputLocation"), ("FailureLocation", "FailureLocation")):
            if member in answer:
                headers[f"X-Amzn-SageMaker-{header}"] = answer[member]
        return RuntimeResponse(202, headers, json.dumps({"InferenceId": answer["InferenceId"]}).encode())

    async def _invoke(self, invocation: CheckedInvocation) -> RuntimeResponse:
        pool, invocation = self._route(invocation)
        call = await self._open(invocation, pool)
        if not 200 <= call.status < 300:
            status = call.status
            body = await call.read_whole()
            raise call.model_error(status, body.decode(errors="replace"))
        content_type = call.header("Content-Type") or _DEFAULT_TYPE
        headers = {"x-Amzn-Invoked-Production-Variant": pool.name} | {
            name: value for name in _FROM_CONTAINER if (value := call.header(name))
        }
        if invocation.request.streamed:
            headers["X-Amzn-SageMaker-Content-Type"] = content_type
            headers["Content-Type"] = event_stream.CONTENT_TYPE
            return RuntimeResponse(200, headers, ResponseStream(call))
        headers["Content-Type"] = content_type
        return RuntimeResponse(200, headers, await call.read_whole())

    def _route(self, invocation: CheckedInvocation) -> tuple[VariantPool, CheckedInvocation]:
        """Where a request goes, and the request as it goes there; a copy goes to the shadow."""
        endpoint = invocation.endpoint
        if invocation.component is None:
            live = self._deployments.live[endpoint["EndpointName"].lower()]
            fleet, pool = live.route(invocation.target_variant)
            self.shadow_traffic.copy(fleet, pool, invocation.request)
            return pool, invocation
        record = self._store.components.find(invocation.component)
        if record is None or record["EndpointName"] != endpoint["EndpointName"]:
            raise AwsApiError(
                "ValidationError",
                f"Inference Component {invocation.component} not found on endpoint "
                f"{endpoint['EndpointName']}.",
            )
        if invocation.target_variant is not None:
            raise AwsApiError("ValidationError", "TargetVariant cannot be used with InferenceComponentName.")
        pool, headers = self._components.route(record)
        request = invocation.request
        return pool, replace(invocation, request=replace(request, headers={**request.headers, **headers}))

    async def _open(self, invocation: CheckedInvocation, pool: VariantPool) -> ContainerCall:
        """The request in a container that took it; an instance that cannot be reached is passed over."""
        for _ in range(1 + len(pool.instances)):
            instance = await pool.acquire()
            if instance is None:
                break
            call = ContainerCall(
                self._client,
                self._metric_buffer,
                self._store.identity,
                pool,
                instance,
                invocation.request,
                invocation.received,
            )
            try:
                await call.open()
            except ContainerUnreachableError:
                continue
            return call
        self._metric_buffer.record(pool.location, {"Invocations": 1, "Invocation5XXErrors": 1})
        raise unavailable("The endpoint has no healthy instance for the request.")


def _typed_header(text: str, type_name: str) -> Any:
    """A header's value in the type of its member; what cannot be read is left for the check to refuse."""
    if type_name == "integer":
        try:
            return int(text)
        except ValueError:
            return text
    return text
