"""The errors API Gateway itself answers with, and how a stage's gateway responses shape them.

Source of types, statuses and messages: the API Gateway developer guide, "Gateway response types".
Knows nothing of what led to an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from local.cloud.rest_api.configuration import Api, Stage
from local.cloud.rest_api.http_messages import Headers, Reply, Request, set_header

STATUS: dict[str, int] = {
    "ACCESS_DENIED": 403,
    "API_CONFIGURATION_ERROR": 500,
    "AUTHORIZER_CONFIGURATION_ERROR": 500,
    "AUTHORIZER_FAILURE": 500,
    "BAD_REQUEST_BODY": 400,
    "BAD_REQUEST_PARAMETERS": 400,
    "DEFAULT_4XX": 403,
    "DEFAULT_5XX": 500,
    "EXPIRED_TOKEN": 403,
    "INTEGRATION_FAILURE": 504,
    "INTEGRATION_TIMEOUT": 504,
    "INVALID_API_KEY": 403,
    "INVALID_SIGNATURE": 403,
    "MISSING_AUTHENTICATION_TOKEN": 403,
    "QUOTA_EXCEEDED": 429,
    "REQUEST_TOO_LARGE": 413,
    "RESOURCE_NOT_FOUND": 404,
    "THROTTLED": 429,
    "UNAUTHORIZED": 401,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "WAF_FILTERED": 403,
}
MESSAGE: dict[str, str | None] = {
    "ACCESS_DENIED": "User is not authorized to access this resource",
    "API_CONFIGURATION_ERROR": "Internal server error",
    "AUTHORIZER_CONFIGURATION_ERROR": "Internal server error",
    "AUTHORIZER_FAILURE": None,
    "BAD_REQUEST_BODY": "Invalid request body",
    "DEFAULT_5XX": "Internal server error",
    "EXPIRED_TOKEN": "The security token included in the request is expired",
    "INTEGRATION_FAILURE": "Network error communicating with endpoint",
    "INTEGRATION_TIMEOUT": "Endpoint request timed out",
    "INVALID_API_KEY": "Forbidden",
    "MISSING_AUTHENTICATION_TOKEN": "Missing Authentication Token",
    "QUOTA_EXCEEDED": "Limit Exceeded",
    "REQUEST_TOO_LARGE": "Request Too Long",
    "THROTTLED": "Too Many Requests",
    "UNAUTHORIZED": "Unauthorized",
    "UNSUPPORTED_MEDIA_TYPE": "Unsupported Media Type",
}
ERROR_TYPE: dict[str, str] = {
    "ACCESS_DENIED": "AccessDeniedException",
    "API_CONFIGURATION_ERROR": "InternalServerErrorException",
    "AUTHORIZER_CONFIGURATION_ERROR": "AuthorizerConfigurationException",
    "AUTHORIZER_FAILURE": "AuthorizerConfigurationException",
    "BAD_REQUEST_BODY": "BadRequestException",
    "BAD_REQUEST_PARAMETERS": "BadRequestException",
    "DEFAULT_4XX": "BadRequestException",
    "DEFAULT_5XX": "InternalServerErrorException",
    "EXPIRED_TOKEN": "ExpiredTokenException",
    "INTEGRATION_FAILURE": "InternalServerErrorException",
    "INTEGRATION_TIMEOUT": "InternalServerErrorException",
    "INVALID_API_KEY": "ForbiddenException",
    "INVALID_SIGNATURE": "InvalidSignatureException",
    "MISSING_AUTHENTICATION_TOKEN": "MissingAuthenticationTokenException",
    "QUOTA_EXCEEDED": "LimitExceededException",
    "REQUEST_TOO_LARGE": "RequestTooLongException",
    "THROTTLED": "TooManyRequestsException",
    "UNAUTHORIZED": "UnauthorizedException",
    "UNSUPPORTED_MEDIA_TYPE": "UnsupportedMediaTypeException",
    "WAF_FILTERED": "ForbiddenException",
}
_SPACED = {
    "API_CONFIGURATION_ERROR",
    "AUTHORIZER_CONFIGURATION_ERROR",
    "BAD_REQUEST_BODY",
    "BAD_REQUEST_PARAMETERS",
    "DEFAULT_5XX",
}
"""Types whose `messageString` AWS renders with a leading space: `{"message": "Internal server error"}`."""

_DEFAULT_TEMPLATE = '{"message":$context.error.messageString}'
_DENIED_TEMPLATE = '{"Message":$context.error.messageString}'
_VARIABLE = re.compile(
    r"\$(?:\{((?:context|stageVariables)(?:\.\w+)+)\}|((?:context|stageVariables)(?:\.\w+)+))"
)


class GatewayError(Exception):
    """An error API Gateway answers itself.

    `reason` is for the log alone: callers see only `message`. `status` overrides the type's own, as a
    malformed proxy reply does (502 under DEFAULT_5XX).
    """

    def __init__(
        self,
        type: str,
        message: str | None = None,
        *,
        status: int | None = None,
        error_type: str | None = None,
        reason: str = "",
    ) -> None:
        self.type = type
        self.message = message if message is not None else MESSAGE.get(type)
        self.status = status or STATUS[type]
        self.error_type = error_type or ERROR_TYPE.get(type, "")
        self.reason = reason
        super().__init__(reason or self.message or type)


def render(
    error: GatewayError, request: Request, api: Api, stage: Stage, context: Mapping[str, str]
) -> Reply:
    """The reply to an error: the type's own gateway response, else DEFAULT_4XX/5XX, else the built-in one.

    `context` holds further `$context` variables, by their name after `context.`.
    """
    family = "DEFAULT_5XX" if error.status >= 500 else "DEFAULT_4XX"
    own = api.gateway_responses.get(error.type)
    chosen = own or api.gateway_responses.get(family) or {}
    status = int(own["statusCode"]) if own and own.get("statusCode") else error.status
    template = (chosen.get("responseTemplates") or {}).get("application/json")
    if template is None or (template == _DEFAULT_TEMPLATE and not chosen):
        template = _DENIED_TEMPLATE if error.type == "ACCESS_DENIED" and not chosen else _DEFAULT_TEMPLATE
    headers: Headers = [("Content-Type", "application/json")]
    if error.error_type:
        headers.append(("x-amzn-ErrorType", error.error_type))
    for destination, expression in (chosen.get("responseParameters") or {}).items():
        name = destination.removeprefix("gatewayresponse.header.")
        value = _mapped(expression, request, stage, context)
        if name != destination and value is not None:
            set_header(headers, name, value)
    values = _variables(error, request, stage, context)
    body = _VARIABLE.sub(lambda found: values.get(found[1] or found[2], ""), template)
    return Reply(status, headers, body.encode())


def _variables(
    error: GatewayError, request: Request, stage: Stage, context: Mapping[str, str]
) -> dict[str, str]:
    quoted = "null" if error.message is None else json.dumps(error.message)
    values = {f"context.{name}": text for name, text in context.items()}
    values |= {f"stageVariables.{name}": text for name, text in stage.variables.items()}
    values |= {
        "context.error.message": error.message or "",
        "context.error.messageString": (" " if error.type in _SPACED else "") + quoted,
        "context.error.responseType": error.type,
        "context.error.validationErrorString": error.reason if error.type == "BAD_REQUEST_BODY" else "",
        "context.requestId": request.request_id,
        "context.extendedRequestId": request.extended_request_id,
        "context.stage": stage.name,
    }
    return values


def _mapped(expression: Any, request: Request, stage: Stage, context: Mapping[str, str]) -> str | None:
    """The value of a `gatewayresponse.header.*` mapping; None leaves the header out."""
    text = str(expression)
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1]
    if text.startswith("method.request.header."):
        return request.header(text.removeprefix("method.request.header.")) or None
    if text.startswith("method.request.querystring."):
        return request.query_value(text.removeprefix("method.request.querystring.")) or None
    if text.startswith("stageVariables."):
        return stage.variables.get(text.removeprefix("stageVariables."))
    if text == "context.requestId":
        return request.request_id
    if text.startswith("context."):
        return context.get(text.removeprefix("context."))
    return None
