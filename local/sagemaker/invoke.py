"""The data plane: InvokeEndpoint and InvokeEndpointWithResponseStream.

Checks the request, picks a variant and an instance, passes on what a container may see, and turns whatever
comes back into the service's replies, errors and metrics. The reply's pieces are forwarded as they arrive.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import httpx

from local.sagemaker import eventstream
from local.sagemaker.container_call import ContainerCall, ContainerRequest, Unreachable
from local.sagemaker.deployment import Deployments
from local.sagemaker.errors import ApiError, unavailable
from local.sagemaker.metrics import Meter
from local.sagemaker.mirror import Mirror
from local.sagemaker.pool import VariantPool
from local.sagemaker.reply_stream import ReplyStream
from local.sagemaker.shapes import check, service_model
from local.sagemaker.store import Record, Store

MAX_BODY_BYTES = 6 * 1024 * 1024
_PATH = re.compile(
    r"^/endpoints/(?P<name>[^/]+)/(?P<kind>invocations|invocations-response-stream|async-invocations)$"
)
_OPERATIONS = {
    "invocations": "InvokeEndpoint",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
    "async-invocations": "InvokeEndpointAsync",
}
_UNSUPPORTED = ("TargetModel", "TargetContainerHostname", "InferenceComponentName", "EnableExplanations")
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
class RuntimeReply:
    """What goes back to the caller; the body is whole or an iterator that must be exhausted or closed."""

    status: int
    headers: dict[str, str]
    body: bytes | AsyncIterator[bytes]


@dataclass(frozen=True)
class Invocation:
    """A checked request; `received` is on the clock of `time.perf_counter`."""

    endpoint: Record
    target_variant: str | None
    request: ContainerRequest
    received: float


def operation_of(path: str) -> tuple[str, str] | None:
    """Operation and endpoint name of a runtime path; None for any other path."""
    match = _PATH.match(path)
    return (_OPERATIONS[match["kind"]], match["name"]) if match else None


class Runtime:
    """Answers runtime requests from what is live."""

    def __init__(
        self, store: Store, deployments: Deployments, client: httpx.AsyncClient, meter: Meter
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._client = client
        self._meter = meter
        self.mirror = Mirror(client, meter, store.identity)

    async def handle(self, path: str, headers: Mapping[str, str], body: bytes) -> RuntimeReply:
        """Answer a POST; `headers` has lower-case names. Never raises ApiError: it becomes the reply."""
        try:
            return await self._invoke(self._parse(path, headers, body))
        except ApiError as error:
            headers_out = {"Content-Type": "application/json", "x-amzn-ErrorType": error.code}
            return RuntimeReply(error.status, headers_out, error.rest_body())

    def _parse(self, path: str, headers: Mapping[str, str], body: bytes) -> Invocation:
        received = time.perf_counter()
        found = operation_of(path)
        if found is None:
            raise ApiError("UnknownOperationException", f"No runtime operation has the path {path}.", 404)
        operation, name = found
        if operation == "InvokeEndpointAsync":
            raise ApiError("ValidationError", f"Endpoint {name} does not support asynchronous inference.")
        if len(body) > MAX_BODY_BYTES:
            raise ApiError("413", f"HTTP content length exceeded {MAX_BODY_BYTES} bytes.", 413)
        shape = service_model("sagemaker-runtime").operation_model(operation).input_shape
        params = {
            member: headers[part.serialization["name"].lower()]
            for member, part in shape.members.items()
            if part.serialization.get("location") == "header"
            and part.serialization["name"].lower() in headers
        }
        try:
            check("sagemaker-runtime", operation, {**params, "EndpointName": name, "Body": body})
        except ApiError as error:
            raise ApiError("ValidationError", error.message) from None
        for unsupported in _UNSUPPORTED:
            if unsupported in params:
                raise ApiError("ValidationError", f"{unsupported} is not allowed for endpoint {name}.")
        record = self._store.endpoints.find(name)
        if record is None or record["EndpointStatus"] not in _LIVE_STATUSES:
            account = self._store.identity.account
            raise ApiError("ValidationError", f"Endpoint {name} of account {account} not found.")
        headers_out = {"Content-Type": _DEFAULT_TYPE, "Accept": "*/*"} | {
            header: params[name] for name, header in _TO_CONTAINER.items() if name in params
        }
        streamed = operation == "InvokeEndpointWithResponseStream"
        request = ContainerRequest(record["EndpointName"], headers_out, body, streamed)
        return Invocation(record, params.get("TargetVariant"), request, received)

    async def _invoke(self, invocation: Invocation) -> RuntimeReply:
        live = self._deployments.live[invocation.endpoint["EndpointName"].lower()]
        fleet, pool = live.route(invocation.target_variant)
        self.mirror.copy(fleet, pool, invocation.request)
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
            headers["Content-Type"] = eventstream.CONTENT_TYPE
            return RuntimeReply(200, headers, ReplyStream(call))
        headers["Content-Type"] = content_type
        return RuntimeReply(200, headers, await call.read_whole())

    async def _open(self, invocation: Invocation, pool: VariantPool) -> ContainerCall:
        """The request in a container that took it; an instance that cannot be reached is passed over."""
        for _ in range(1 + len(pool.instances)):
            instance = pool.pick()
            if instance is None:
                break
            call = ContainerCall(
                self._client,
                self._meter,
                self._store.identity,
                pool.name,
                instance,
                invocation.request,
                invocation.received,
                len(pool.instances),
            )
            try:
                await call.open()
            except Unreachable:
                continue
            return call
        name = invocation.endpoint["EndpointName"]
        self._meter.record(name, pool.name, {"Invocations": 1, "Invocation5XXErrors": 1})
        raise unavailable("The endpoint has no healthy instance for the request.")
