"""The deployed configuration of a REST API, parsed once per deployment into what a request needs.

Input are plain dicts in the shapes of the API Gateway control plane (`get_resources`, `get_authorizers`,
`get_stage`, `get_gateway_responses` …). Knows nothing of where they come from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BUFFERED_TIMEOUT_MS = 29_000
DEFAULT_AUTHORIZER_TTL = 300
_DEFAULT_SOURCE = "method.request.header.Authorization"
_FUNCTION = re.compile(r"/functions/(?P<arn>[^/]+)/(?:invocations|response-streaming-invocations)$")


class ConfigurationError(Exception):
    """The deployed configuration cannot be served; the message says which part."""


@dataclass(frozen=True)
class Integration:
    """What answers a method. `function` is an ARN, with its qualifier if it has one."""

    type: str
    function: str
    streaming: bool
    timeout_seconds: float
    credentials: str | None
    request_templates: Mapping[str, str]
    passthrough: str
    responses: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Authorizer:
    """A Lambda authorizer. `identity_sources` are mapping expressions such as `method.request.header.X`."""

    id: str
    type: str
    function: str
    credentials: str | None
    identity_sources: tuple[str, ...]
    validation_expression: str
    ttl_seconds: int


@dataclass(frozen=True)
class Validator:
    """What the method's request validator checks before the integration is called."""

    parameters: bool
    body: bool


@dataclass(frozen=True)
class Method:
    """One method of one resource; `http_method` may be `ANY`."""

    resource_id: str
    resource_path: str
    http_method: str
    authorization: str
    authorizer: Authorizer | None
    api_key_required: bool
    operation_name: str | None
    request_parameters: Mapping[str, bool]
    request_models: Mapping[str, str]
    validator: Validator | None
    integration: Integration | None


@dataclass(frozen=True)
class Api:
    """One deployment of a REST API. `methods` is keyed by (resource path, HTTP method)."""

    id: str
    name: str
    deployment_id: str
    api_key_source: str
    binary_media_types: tuple[str, ...]
    methods: Mapping[tuple[str, str], Method]
    models: Mapping[str, Any]
    gateway_responses: Mapping[str, Mapping[str, Any]]
    policy: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Stage:
    """A stage as it stands now: unlike the API it takes effect without a deployment."""

    name: str
    variables: Mapping[str, str]
    method_settings: Mapping[str, Mapping[str, Any]]
    access_log_arn: str
    access_log_format: str


@dataclass(frozen=True)
class ApiSource:
    """The control plane's dicts behind one deployment."""

    rest_api: Mapping[str, Any]
    resources: list[Mapping[str, Any]]
    authorizers: list[Mapping[str, Any]] = field(default_factory=list)
    request_validators: list[Mapping[str, Any]] = field(default_factory=list)
    models: list[Mapping[str, Any]] = field(default_factory=list)
    gateway_responses: list[Mapping[str, Any]] = field(default_factory=list)


def parse_api(source: ApiSource, deployment_id: str) -> Api:
    """Parse a deployment. Raises ConfigurationError for a method whose authorizer or request validator is not
    there: serving it unguarded would be worse than not at all."""
    authorizers = {item["id"]: _authorizer(item) for item in source.authorizers}
    validators = {
        item["id"]: Validator(
            bool(item.get("validateRequestParameters")), bool(item.get("validateRequestBody"))
        )
        for item in source.request_validators
    }
    methods = {
        (resource["path"], verb): _method(resource, verb, raw, authorizers, validators)
        for resource in source.resources
        for verb, raw in (resource.get("resourceMethods") or {}).items()
    }
    rest_api = source.rest_api
    return Api(
        id=rest_api["id"],
        name=rest_api.get("name") or rest_api["id"],
        deployment_id=deployment_id,
        api_key_source=(rest_api.get("apiKeySource") or "HEADER").upper(),
        binary_media_types=tuple(rest_api.get("binaryMediaTypes") or ()),
        methods=methods,
        models={item["name"]: item.get("schema") for item in source.models},
        policy=_policy(rest_api.get("policy")),
        gateway_responses={
            item["responseType"]: item
            for item in source.gateway_responses
            if not item.get("defaultResponse", False)
        },
    )


def parse_stage(raw: Mapping[str, Any]) -> Stage:
    """Parse a stage as `get_stage` returns it."""
    logs = raw.get("accessLogSettings") or {}
    return Stage(
        name=raw["stageName"],
        variables=dict(raw.get("variables") or {}),
        method_settings={_setting(key): value for key, value in (raw.get("methodSettings") or {}).items()},
        access_log_arn=logs.get("destinationArn") or "",
        access_log_format=logs.get("format") or "",
    )


def function_of_uri(uri: str) -> str:
    """The Lambda ARN inside an integration's or authorizer's URI, or an empty string."""
    found = _FUNCTION.search(uri or "")
    return found["arn"] if found else ""


def _setting(key: str) -> str:
    """`/path/VERB` or `*/*`, from a key that may be JSON-pointer encoded (`/~1path/VERB`)."""
    path, _, verb = key.rpartition("/")
    path = path.lstrip("/").replace("~1", "/")
    return f"*/{verb}" if path == "*" else f"/{path.lstrip('/')}/{verb}"


def _authorizer(raw: Mapping[str, Any]) -> Authorizer:
    ttl = raw.get("authorizerResultTtlInSeconds")
    type_ = (raw.get("type") or "TOKEN").upper()
    expression = raw.get("identitySource") or (_DEFAULT_SOURCE if type_ == "TOKEN" else "")
    sources = (part.strip() for part in expression.split(","))
    return Authorizer(
        id=raw["id"],
        type=type_,
        function=function_of_uri(raw.get("authorizerUri") or ""),
        credentials=raw.get("authorizerCredentials") or None,
        identity_sources=tuple(source for source in sources if source),
        validation_expression=raw.get("identityValidationExpression") or "",
        ttl_seconds=DEFAULT_AUTHORIZER_TTL if ttl in (None, "") else max(0, int(ttl)),
    )


def _method(
    resource: Mapping[str, Any],
    verb: str,
    raw: Mapping[str, Any],
    authorizers: Mapping[str, Authorizer],
    validators: Mapping[str, Validator],
) -> Method:
    authorizer_id = raw.get("authorizerId")
    authorization = (raw.get("authorizationType") or "NONE").upper()
    if authorization == "CUSTOM" and authorizer_id not in authorizers:
        raise ConfigurationError(f"{verb} {resource['path']} names authorizer {authorizer_id}, which is gone")
    validator_id = raw.get("requestValidatorId")
    if validator_id and validator_id not in validators:
        raise ConfigurationError(f"{verb} {resource['path']} names validator {validator_id}, which is gone")
    integration = raw.get("methodIntegration")
    return Method(
        resource_id=resource["id"],
        resource_path=resource["path"],
        http_method=verb,
        authorization=authorization,
        authorizer=authorizers.get(authorizer_id or ""),
        api_key_required=_truth(raw.get("apiKeyRequired")),
        operation_name=raw.get("operationName") or None,
        request_parameters={k: _truth(v) for k, v in (raw.get("requestParameters") or {}).items()},
        request_models=dict(raw.get("requestModels") or {}),
        validator=validators.get(validator_id or ""),
        integration=_integration(integration) if integration else None,
    )


def _integration(raw: Mapping[str, Any]) -> Integration:
    return Integration(
        type=(raw.get("type") or "").upper(),
        function=function_of_uri(raw.get("uri") or ""),
        streaming=(raw.get("responseTransferMode") or "BUFFERED").upper() == "STREAM",
        timeout_seconds=int(raw.get("timeoutInMillis") or BUFFERED_TIMEOUT_MS) / 1000,
        credentials=raw.get("credentials") or None,
        request_templates=dict(raw.get("requestTemplates") or {}),
        passthrough=(raw.get("passthroughBehavior") or "WHEN_NO_MATCH").upper(),
        responses=dict(raw.get("integrationResponses") or {}),
    )


def _policy(raw: Any) -> Mapping[str, Any] | None:
    return json.loads(raw) if isinstance(raw, str) and raw else raw or None


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() == "true"
