"""Joins the gateway to the laptop cloud: routes, functions, permissions, callers, metrics and logs."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local.cloud import ministack_adapter
from local.cloud.config import ADDRESS, CloudConfig
from local.cloud.lambda_service import service as lambda_service
from local.cloud.lambda_service.results import InvokeResult, StreamResult
from local.cloud.rest_api.configuration import ConfigurationError
from local.cloud.rest_api.deployments import Deployments
from local.cloud.rest_api.dropped_properties import DROPPED_PROPERTIES
from local.cloud.rest_api.execute_api import MAX_BODY_BYTES, CompletedRequest, ExecuteApi
from local.cloud.rest_api.gateway_responses import GatewayError
from local.cloud.rest_api.http_messages import Headers, Reply, Request
from local.cloud.rest_api.lambda_proxy import Functions
from local.cloud.rest_api.monitoring import NAMESPACE, access_log_line, log_group_of, metric_data
from local.cloud.rest_api.request_context import ApiLocation, RequestContext
from local.cloud.rest_api.signatures import check_secret, signature_of
from local.cloud.rest_api.usage_plans import Plan, UsageMeter, parse_plan
from local.home import SECRET as ROOT_SECRET

PREFIX = "/_aws/execute-api/"
PRINCIPAL = "apigateway.amazonaws.com"
_SIGNATURE_ERRORS = {
    "AccessDeniedException": ("ACCESS_DENIED", "AccessDeniedException"),
    "CredentialDateMismatch": ("INVALID_SIGNATURE", "InvalidSignatureException"),
    "ExpiredTokenException": ("EXPIRED_TOKEN", "ExpiredTokenException"),
    "IncompleteSignature": ("DEFAULT_4XX", "IncompleteSignatureException"),
    "MissingAuthenticationToken": ("MISSING_AUTHENTICATION_TOKEN", "MissingAuthenticationTokenException"),
    "MissingAuthorizationParameter": ("DEFAULT_4XX", "IncompleteSignatureException"),
    "RequestTimeTooSkewed": ("INVALID_SIGNATURE", "InvalidSignatureException"),
    "SignatureDoesNotMatch": ("INVALID_SIGNATURE", "InvalidSignatureException"),
}
_log = logging.getLogger(__name__)


def register(config: CloudConfig) -> None:
    """Take over the data plane of REST APIs. Call once, after `ministack_adapter.install`."""
    plane = DataPlane(config)
    # A little above the limit, so that the gateway itself can answer 413 with its own gateway response.
    ministack_adapter.add_http_route(PREFIX, plane.serve, max_body_bytes=2 * MAX_BODY_BYTES)
    ministack_adapter.on_api_deployment(plane.deployments.snapshot)
    for type_name, restore in DROPPED_PROPERTIES.items():
        ministack_adapter.after_provisioning(type_name, functools.partial(_restore, restore))
    ministack_adapter.add_state("rest_api", plane.save, plane.load)


class DataPlane:
    """Serves `/_aws/execute-api/<api id>/<stage>/<path>`."""

    def __init__(self, config: CloudConfig) -> None:
        self.deployments = Deployments(ministack_adapter.rest_api)
        self._meter = UsageMeter()
        location = ApiLocation(config.account, config.region, f"{ADDRESS}:{config.port}")
        self._gateway = ExecuteApi(_Cloud(), self._meter, location, _on_completed)

    async def serve(self, http: ministack_adapter.HttpRequest) -> ministack_adapter.HttpResponse:
        """Answer one request of the emulator's HTTP server."""
        api_id, _, rest = http.raw_path.removeprefix(PREFIX).partition("/")
        stage_name, _, path = rest.partition("/")
        try:
            deployment = self.deployments.find(api_id, stage_name)
        except ConfigurationError as error:
            _log.error("API %s cannot be served: %s", api_id, error)
            return _plain(500, "InternalServerErrorException", "Internal server error")
        if deployment is None:
            return _plain(403, "ForbiddenException", "Forbidden")
        request = Request(
            method=http.method,
            path=f"/{path}",
            query=http.query_string,
            headers=list(http.header_lines),
            body=http.body,
            source_ip=http.client_ip,
            origin=http,
        )
        return _http_response(await self._gateway.handle(request, deployment))

    def save(self) -> dict[str, Any]:
        """Snapshots and quota counters as JSON data."""
        return {"deployments": self.deployments.save(), "quotas": self._meter.save()}

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `save` gave."""
        self.deployments.load(data.get("deployments") or {})
        self._meter.load(data.get("quotas") or {})


class _Functions:
    async def invoke(self, arn: str, event: Any) -> InvokeResult:
        return await lambda_service.invoke(arn, event, trace_id=_trace_id(event))

    async def invoke_stream(self, arn: str, event: Any) -> StreamResult:
        return await lambda_service.invoke_stream(arn, event, trace_id=_trace_id(event))


def _trace_id(event: Mapping[str, Any]) -> str | None:
    return (event.get("headers") or {}).get("X-Amzn-Trace-Id")


class _Cloud:
    """The gateway's surroundings on the laptop."""

    functions: Functions = _Functions()

    def may_invoke(self, function_arn: str, source_arn: str, credentials: str | None) -> bool:
        """The resource policy decides, or the role's trust; what the role itself may do is not checked."""
        if credentials:
            try:
                ministack_adapter.role_credentials(credentials, "api-gateway", service=PRINCIPAL)
            except PermissionError as error:
                _log.warning("API Gateway cannot assume %s: %s", credentials, error)
                return False
            return True
        return ministack_adapter.function_policy_allows(function_arn, PRINCIPAL, source_arn)

    def iam_caller(self, call: RequestContext) -> str:
        """The emulator verifies users' and roles' signatures, but takes the root user's key on trust: that
        one is verified here."""
        http = call.request.origin
        assert isinstance(http, ministack_adapter.HttpRequest)
        signature = signature_of(call.request)
        if signature.access_key_id == call.location.account:
            check_secret(signature, call.request, http.raw_path, ROOT_SECRET)
        permission = ministack_adapter.Permission("execute-api:Invoke", [call.method_arn])
        completed = ministack_adapter.authorize(http, "apigateway", permission)
        if isinstance(completed, ministack_adapter.AccessDenied):
            type_, error_type = _SIGNATURE_ERRORS.get(
                completed.code, ("DEFAULT_4XX", "UnrecognizedClientException")
            )
            raise GatewayError(type_, completed.message, error_type=error_type)
        return completed

    def plans(self, api_id: str, stage: str) -> Sequence[Plan]:
        """The usage plans that cover a stage, with their keys."""
        return [
            parse_plan(item.plan, item.keys, api_id, stage)
            for item in ministack_adapter.usage_plans(api_id, stage)
        ]


def _restore(restore: Callable[..., None], physical_id: str, properties: Mapping[str, Any]) -> None:
    if live := ministack_adapter.rest_api(properties.get("RestApiId") or physical_id):
        restore(live, physical_id, properties)


def _on_completed(completed: CompletedRequest) -> None:
    ministack_adapter.put_metric_data(NAMESPACE, metric_data(completed))
    stage = completed.call.stage
    if group := log_group_of(stage.access_log_arn):
        stream = f"{completed.call.api.id}/{stage.name}"
        ministack_adapter.put_log_events(
            group, stream, [(int(time.time() * 1000), access_log_line(completed))]
        )


def _http_response(reply: Reply) -> ministack_adapter.HttpResponse:
    body = reply.body if isinstance(reply.body, bytes) else ministack_adapter.StreamingResponse(reply.body)
    return ministack_adapter.HttpResponse(reply.status, _grouped(reply.headers), body)


def _grouped(headers: Headers) -> dict[str, str | list[str]]:
    """Headers as a mapping; lines of one name, whatever their case, become a list."""
    names: dict[str, str] = {}
    grouped: dict[str, list[str]] = {}
    for name, value in headers:
        grouped.setdefault(names.setdefault(name.lower(), name), []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in grouped.items()}


def _plain(status: int, error_type: str, message: str) -> ministack_adapter.HttpResponse:
    """An answer from before any deployment is reached, which no gateway response shapes."""
    headers: dict[str, str | list[str]] = {"Content-Type": "application/json", "x-amzn-ErrorType": error_type}
    return ministack_adapter.HttpResponse(status, headers, f'{{"message":"{message}"}}'.encode())
