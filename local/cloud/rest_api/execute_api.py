"""The order in which API Gateway looks at a request, from the route to the integration.

route ▸ resource policy ▸ authorization ▸ key, throttle, quota ▸ request validator ▸ integration. Every
refusal is a GatewayError, rendered through the deployment's gateway responses. Knows nothing of the
emulator: what it needs from outside is the `CloudServices`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from local.cloud.lambda_service.results import InvokeResult, RequestTooLargeError, TooManyRequestsError
from local.cloud.rest_api import lambda_proxy, mock, request_validation
from local.cloud.rest_api.authorizers import EXPLICIT_DENY, LambdaAuthorizers
from local.cloud.rest_api.configuration import Api, Authorizer, Integration, Method, Stage
from local.cloud.rest_api.gateway_responses import GatewayError, render
from local.cloud.rest_api.http_messages import Reply, Request, set_header
from local.cloud.rest_api.policies import PolicyError, decide
from local.cloud.rest_api.request_context import ApiLocation, RequestContext, context_variables
from local.cloud.rest_api.routing import RouteTree
from local.cloud.rest_api.usage_plans import Plan, UsageMeter

MAX_BODY_BYTES = 10 * 1024 * 1024
AUTHORIZER_SECONDS = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deployment:
    """An API as one stage serves it: parsed configuration and its routes."""

    api: Api
    stage: Stage
    routes: RouteTree[Method]


class CloudServices(Protocol):
    """What the gateway asks of the cloud around it."""

    @property
    def functions(self) -> lambda_proxy.Functions:
        """How functions are run."""

    def may_invoke(self, function_arn: str, source_arn: str, credentials: str | None) -> bool:
        """Whether the function's resource policy, or the role in `credentials`, lets the API invoke it."""

    def iam_caller(self, call: RequestContext) -> str:
        """The ARN of a caller whose signature and policies are in order; raises GatewayError otherwise."""

    def plans(self, api_id: str, stage: str) -> Sequence[Plan]:
        """The usage plans that cover a stage."""


@dataclass(frozen=True)
class CompletedRequest:
    """What a finished request is measured and logged by. Seconds; `sent` is the body's size in bytes."""

    call: RequestContext
    status: int
    seconds: float
    sent: int
    error: GatewayError | None


class ExecuteApi:
    """Serves requests to stages. `on_completed` is called once per request, for a stream at its end."""

    def __init__(
        self,
        surroundings: CloudServices,
        meter: UsageMeter,
        location: ApiLocation,
        on_completed: Callable[[CompletedRequest], None] = lambda _completed: None,
    ) -> None:
        self._services = surroundings
        self._meter = meter
        self._location = location
        self._on_completed = on_completed
        self._authorizers = LambdaAuthorizers(self._invoke_authorizer)

    async def handle(self, request: Request, deployment: Deployment) -> Reply:
        """Answer one request. A streamed reply's body must be iterated or closed."""
        started = time.perf_counter()
        call = RequestContext(request, self._location, deployment.api, deployment.stage)
        error = None
        try:
            reply = await self._serve(call, deployment)
        except GatewayError as refused:
            error = refused
            if refused.status >= 500:
                log.warning("%s %s: %s (%s)", request.method, request.path, refused, refused.type)
            reply = render(refused, request, deployment.api, deployment.stage, context_variables(call))
        set_header(reply.headers, "x-amzn-RequestId", request.request_id)
        set_header(reply.headers, "x-amz-apigw-id", request.extended_request_id)
        if isinstance(reply.body, bytes):
            seconds = time.perf_counter() - started
            self._on_completed(CompletedRequest(call, reply.status, seconds, len(reply.body), error))
            return reply
        return Reply(reply.status, reply.headers, self._watched(call, reply.status, reply.body, started))

    async def _serve(self, call: RequestContext, deployment: Deployment) -> Reply:
        method = _route(call, deployment)
        call.method = method
        _check_resource_policy(call)
        await self._authorize(call, method)
        self._meter.admit(call, self._services.plans(call.api.id, call.stage.name))
        request_validation.validate(call)
        return await self._integrate(call, method.integration)

    async def _authorize(self, call: RequestContext, method: Method) -> None:
        if method.authorization == "AWS_IAM":
            call.caller_arn = self._services.iam_caller(call)
        elif method.authorization == "CUSTOM" and method.authorizer:
            await self._authorizers.authorize(call, method.authorizer)
        elif method.authorization != "NONE":
            raise GatewayError(
                "AUTHORIZER_CONFIGURATION_ERROR", reason=f"{method.authorization} is not offered here"
            )

    async def _integrate(self, call: RequestContext, integration: Integration | None) -> Reply:
        if integration is None:
            raise GatewayError("API_CONFIGURATION_ERROR", reason="the method has no integration")
        if integration.type == "MOCK":
            return mock.answer(call, integration)
        if integration.type != "AWS_PROXY" or not integration.function:
            raise GatewayError(
                "API_CONFIGURATION_ERROR", reason=f"integration type {integration.type} is not offered here"
            )
        permitted = self._services.may_invoke(integration.function, call.source_arn, integration.credentials)
        if not permitted:
            raise GatewayError(
                "API_CONFIGURATION_ERROR",
                reason=f"no permission to invoke {integration.function} for {call.source_arn}",
            )
        serve = lambda_proxy.streamed if integration.streaming else lambda_proxy.buffered
        return await serve(call, integration, self._services.functions)

    async def _invoke_authorizer(
        self, call: RequestContext, authorizer: Authorizer, event: dict[str, Any]
    ) -> InvokeResult:
        source = call.authorizer_arn(authorizer.id)
        if not self._services.may_invoke(authorizer.function, source, authorizer.credentials):
            raise GatewayError(
                "AUTHORIZER_CONFIGURATION_ERROR", reason=f"no permission to invoke {authorizer.function}"
            )
        try:
            invocation = self._services.functions.invoke(authorizer.function, event)
            return await asyncio.wait_for(invocation, AUTHORIZER_SECONDS)
        except KeyError as error:
            raise GatewayError("AUTHORIZER_CONFIGURATION_ERROR", reason=f"no function {error}") from error
        except (TimeoutError, TooManyRequestsError, RequestTooLargeError) as error:
            raise GatewayError("AUTHORIZER_FAILURE", reason=f"no answer: {error!r}") from error

    async def _watched(
        self, call: RequestContext, status: int, body: AsyncIterator[bytes], started: float
    ) -> AsyncIterator[bytes]:
        sent = 0
        try:
            async for piece in body:
                yield piece
                sent += len(piece)
        finally:
            await body.aclose()  # type: ignore[attr-defined]
            self._on_completed(CompletedRequest(call, status, time.perf_counter() - started, sent, None))


def _route(call: RequestContext, deployment: Deployment) -> Method:
    if len(call.request.body) > MAX_BODY_BYTES:
        raise GatewayError("REQUEST_TOO_LARGE")
    found = deployment.routes.match(call.request.method, call.request.path)
    if found is None:
        raise GatewayError("MISSING_AUTHENTICATION_TOKEN")
    call.path_parameters = found[1]
    return found[0]


def _check_resource_policy(call: RequestContext) -> None:
    """A resource policy must allow; where IAM authorizes, the caller's own policies may do instead."""
    assert call.method is not None
    if call.api.policy is None:
        return
    try:
        decision = decide(call.api.policy, call.method_arn)
    except PolicyError as error:
        raise GatewayError("API_CONFIGURATION_ERROR", reason=str(error)) from error
    if decision == "Deny":
        raise GatewayError("ACCESS_DENIED", EXPLICIT_DENY)
    if decision == "None" and call.method.authorization != "AWS_IAM":
        raise GatewayError("ACCESS_DENIED")
