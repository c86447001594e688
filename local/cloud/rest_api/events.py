"""The events a REST API hands to functions: the proxy event and the REQUEST authorizer's.

Shapes: API Gateway developer guide, "Input format of a Lambda function for proxy integration" and "Input to
an API Gateway Lambda authorizer". A REST API's event carries no `version`: that key belongs to HTTP APIs.
"""

from __future__ import annotations

import base64
import secrets
import time
from typing import Any

from local.cloud.rest_api.http_messages import Request
from local.cloud.rest_api.request_context import RequestContext, request_time

_IDENTITY_FIELDS = (
    "accessKey",
    "accountId",
    "caller",
    "cognitoAuthenticationProvider",
    "cognitoAuthenticationType",
    "cognitoIdentityId",
    "cognitoIdentityPoolId",
    "principalOrgId",
    "user",
    "userArn",
)
_CONNECTION = frozenset({"connection", "content-length", "keep-alive", "te", "transfer-encoding", "upgrade"})
"""Headers that end at the gateway and never reach a function."""
_ADDED_CASE = {"host": "Host"}
"""Client header names stay lower-case, as HTTP/2 clients send them; the gateway's own have its case."""


def proxy_event(call: RequestContext) -> dict[str, Any]:
    """The event of an AWS_PROXY integration."""
    return {**_common(call), **_body(call)}


def authorizer_event(call: RequestContext) -> dict[str, Any]:
    """The event of a REQUEST authorizer."""
    return {"type": "REQUEST", "methodArn": call.method_arn, **_common(call)}


def media_type_matches(media_type: str, patterns: tuple[str, ...]) -> bool:
    """Whether a media type is among an API's binary media types, which may hold `*/*` and `image/*`."""
    plain = media_type.split(";", 1)[0].split(",", 1)[0].strip().lower()
    if not plain:
        return False
    kind = plain.split("/", 1)[0]
    return any(pattern.strip().lower() in ("*/*", plain, f"{kind}/*") for pattern in patterns)


def _common(call: RequestContext) -> dict[str, Any]:
    assert call.method is not None
    request = call.request
    headers = _headers(call)
    query = request.query_values
    return {
        "resource": call.method.resource_path,
        "path": request.path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": dict(query) or None,
        "pathParameters": dict(call.path_parameters) or None,
        "stageVariables": dict(call.stage.variables) or None,
        "requestContext": _request_context(call),
    }


def _headers(call: RequestContext) -> dict[str, list[str]]:
    request = call.request
    headers = {
        _ADDED_CASE.get(name, name): list(values)
        for name, values in request.header_values.items()
        if name not in _CONNECTION
    }
    forwarded = headers.pop("x-forwarded-for", [])
    headers["X-Forwarded-For"] = [", ".join([*forwarded, request.source_ip])]
    headers["X-Forwarded-Proto"] = headers.pop("x-forwarded-proto", ["http"])
    headers["X-Forwarded-Port"] = headers.pop("x-forwarded-port", [_port(request)])
    headers["X-Amzn-Trace-Id"] = headers.pop("x-amzn-trace-id", [new_trace_id()])
    return headers


def new_trace_id() -> str:
    """A fresh `X-Amzn-Trace-Id` value: version, seconds in hex, 96 random bits."""
    return f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)}"


def _port(request: Request) -> str:
    return request.header("host").rpartition(":")[2] if ":" in request.header("host") else "80"


def _request_context(call: RequestContext) -> dict[str, Any]:
    assert call.method is not None
    request = call.request
    context: dict[str, Any] = {
        "accountId": call.location.account,
        "apiId": call.api.id,
        "deploymentId": call.api.deployment_id,
        "domainName": call.location.domain_name,
        "domainPrefix": call.location.domain_name.split(".", 1)[0],
        "extendedRequestId": request.extended_request_id,
        "httpMethod": request.method,
        "identity": _identity(call),
        "path": f"/{call.stage.name}{request.path}",
        "protocol": "HTTP/1.1",
        "requestId": request.request_id,
        "requestTime": request_time(request.received_at),
        "requestTimeEpoch": int(request.received_at * 1000),
        "resourceId": call.method.resource_id,
        "resourcePath": call.method.resource_path,
        "stage": call.stage.name,
    }
    if call.method.operation_name:
        context["operationName"] = call.method.operation_name
    if call.authorizer is not None:
        context["authorizer"] = call.authorizer
    return context


def _identity(call: RequestContext) -> dict[str, Any]:
    identity: dict[str, Any] = dict.fromkeys(_IDENTITY_FIELDS)
    identity["sourceIp"] = call.request.source_ip
    identity["userAgent"] = call.request.header("user-agent") or None
    if call.caller_arn:
        identity["accountId"] = call.caller_arn.split(":")[4]
        identity["userArn"] = call.caller_arn
    if call.api_key:
        identity["apiKey"] = call.api_key["value"]
        identity["apiKeyId"] = call.api_key["id"]
    return identity


def _body(call: RequestContext) -> dict[str, Any]:
    body = call.request.body
    if not body:
        return {"body": None, "isBase64Encoded": False}
    if media_type_matches(call.request.header("content-type"), call.api.binary_media_types):
        return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    return {"body": body.decode("utf-8", errors="replace"), "isBase64Encoded": False}
