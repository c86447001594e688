"""Lambda authorizers: identity sources, the call, its cached output, and the verdict for one method.

What is cached is the policy and the context, never the verdict: a cached policy is evaluated against each
request's own method ARN, as on AWS.
"""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local.cloud.lambda_service.results import InvokeResult
from local.cloud.rest_api.configuration import Authorizer
from local.cloud.rest_api.events import authorizer_event
from local.cloud.rest_api.gateway_responses import GatewayError
from local.cloud.rest_api.policies import PolicyError, decide
from local.cloud.rest_api.request_context import RequestContext, context_variables

Invoke = Callable[[RequestContext, Authorizer, dict[str, Any]], Awaitable[InvokeResult]]
EXPLICIT_DENY = (
    "User is not authorized to access this resource with an explicit deny in an identity-based policy"
)
MAX_CACHED = 4096


@dataclass(frozen=True)
class AuthorizerResponse:
    """An authorizer's well-formed answer: what may be invoked, and what the integration is told."""

    policy: Mapping[str, Any]
    context: Mapping[str, str]
    usage_identifier: str | None


class LambdaAuthorizers:
    """Runs a method's Lambda authorizer, or takes its cached answer."""

    def __init__(self, invoke: Invoke, clock: Callable[[], float] = time.monotonic) -> None:
        self._invoke = invoke
        self._clock = clock
        self._cache: OrderedDict[tuple[str, ...], tuple[float, AuthorizerResponse]] = OrderedDict()

    async def authorize(self, call: RequestContext, authorizer: Authorizer) -> None:
        """Let the call pass and tell it who calls, or raise the GatewayError AWS answers."""
        identity = _identity(call, authorizer)
        key = (call.api.id, call.stage.name, authorizer.id, *identity)
        started = time.perf_counter()
        response = self._cached(key) if identity else None
        if response is None:
            response = await self._invoke_function(call, authorizer, identity)
            if identity and authorizer.ttl_seconds:
                self._store(key, authorizer.ttl_seconds, response)
        _check_policy(response, call)
        latency = round((time.perf_counter() - started) * 1000)
        call.authorizer = {**response.context, "integrationLatency": latency}
        call.usage_identifier = response.usage_identifier

    def _cached(self, key: tuple[str, ...]) -> AuthorizerResponse | None:
        expires_at, response = self._cache.get(key, (0.0, None))
        if response is not None and expires_at <= self._clock():
            del self._cache[key]
            return None
        return response

    def _store(self, key: tuple[str, ...], ttl_seconds: int, response: AuthorizerResponse) -> None:
        while len(self._cache) >= MAX_CACHED:
            self._cache.popitem(last=False)
        self._cache[key] = (self._clock() + ttl_seconds, response)

    async def _invoke_function(
        self, call: RequestContext, authorizer: Authorizer, identity: tuple[str, ...]
    ) -> AuthorizerResponse:
        if authorizer.type == "TOKEN":
            event = {"type": "TOKEN", "methodArn": call.method_arn, "authorizationToken": identity[0]}
        else:
            event = authorizer_event(call)
        result = await self._invoke(call, authorizer, event)
        answer = _json(result.payload)
        if result.function_error:
            message = answer.get("errorMessage") if isinstance(answer, dict) else None
            if message == "Unauthorized":
                raise GatewayError("UNAUTHORIZED")
            raise GatewayError("AUTHORIZER_FAILURE", reason=f"the authorizer failed: {message}")
        return _parse_response(answer)


def _identity(call: RequestContext, authorizer: Authorizer) -> tuple[str, ...]:
    """The values of the identity sources; a missing one is a 401 that never reaches the function."""
    values = tuple(_identity_value(call, source) for source in authorizer.identity_sources)
    if not all(values):
        raise GatewayError("UNAUTHORIZED", reason="an identity source is missing")
    expression = authorizer.validation_expression
    if authorizer.type == "TOKEN" and expression and not re.fullmatch(expression, values[0]):
        raise GatewayError("UNAUTHORIZED", reason="the token does not match the validation expression")
    return values


def _identity_value(call: RequestContext, source: str) -> str:
    request = call.request
    if source.startswith("method.request.header."):
        return request.header(source.removeprefix("method.request.header."))
    if source.startswith("method.request.querystring."):
        return request.query_value(source.removeprefix("method.request.querystring."))
    if source.startswith("stageVariables."):
        return call.stage.variables.get(source.removeprefix("stageVariables."), "")
    return context_variables(call).get(source.removeprefix("context."), "")


def _parse_response(answer: Any) -> AuthorizerResponse:
    if not isinstance(answer, dict) or not isinstance(answer.get("policyDocument"), dict):
        raise _malformed("the authorizer's answer has no policyDocument")
    context: dict[str, str] = {}
    raw = answer.get("context") or {}
    if not isinstance(raw, dict):
        raise _malformed("the authorizer's context is not an object")
    for name, value in raw.items():
        if isinstance(value, dict | list):
            raise _malformed(f"the authorizer's context value '{name}' is not a string, number or boolean")
        if value is not None:
            context[name] = ("true" if value else "false") if isinstance(value, bool) else str(value)
    if answer.get("principalId") is not None:
        context["principalId"] = str(answer["principalId"])
    usage_identifier = answer.get("usageIdentifierKey")
    return AuthorizerResponse(
        answer["policyDocument"], context, str(usage_identifier) if usage_identifier is not None else None
    )


def _check_policy(response: AuthorizerResponse, call: RequestContext) -> None:
    try:
        decision = decide(response.policy, call.method_arn)
    except PolicyError as error:
        raise _malformed(str(error)) from error
    if decision == "Deny":
        raise GatewayError("ACCESS_DENIED", EXPLICIT_DENY)
    if decision == "None":
        raise GatewayError("ACCESS_DENIED")


def _malformed(reason: str) -> GatewayError:
    return GatewayError("AUTHORIZER_CONFIGURATION_ERROR", reason=reason)


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return None
