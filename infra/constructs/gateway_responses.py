"""API Gateway's own errors in the shape of every other error: the OpenAI error object.

A response is the same for every route of an API, so it holds what Anthropic's clients read of an error too: a
`type` and a `request_id` beside the error object, and the id in their header.
A client's fault stays 4xx and a fault of ours stays 5xx, or alarms would go blind.
"""

from __future__ import annotations

from aws_cdk import aws_apigateway as apigateway
from constructs import Construct

from contracts.errors import STATUS_OF_TYPE, ErrorType
from infra.settings.api import ApiSettings

_Of = apigateway.ResponseType

# Response, error type, code for programs, and the status where it differs from the type's usual one.
_RESPONSES: list[tuple[str, apigateway.ResponseType, ErrorType, str | None, int | None]] = [
    ("Unauthorized", _Of.UNAUTHORIZED, "authentication_error", "invalid_api_key", None),
    ("AccessDenied", _Of.ACCESS_DENIED, "permission_error", "access_denied", None),
    ("InvalidApiKey", _Of.INVALID_API_KEY, "permission_error", "no_usage_plan", None),
    ("ExpiredToken", _Of.EXPIRED_TOKEN, "permission_error", "expired_token", None),
    ("InvalidSignature", _Of.INVALID_SIGNATURE, "permission_error", "invalid_signature", None),
    ("WafFiltered", _Of.WAF_FILTERED, "permission_error", "request_blocked", None),
    ("Throttled", _Of.THROTTLED, "rate_limit_error", "rate_limit_exceeded", None),
    ("QuotaExceeded", _Of.QUOTA_EXCEEDED, "rate_limit_error", "insufficient_quota", None),
    # What an unknown route gets: API Gateway calls it a missing token.
    ("UnknownRoute", _Of.MISSING_AUTHENTICATION_TOKEN, "not_found_error", "unknown_route", None),
    ("ResourceNotFound", _Of.RESOURCE_NOT_FOUND, "not_found_error", "unknown_route", None),
    ("BadBody", _Of.BAD_REQUEST_BODY, "invalid_request_error", "bad_body", None),
    ("BadParameters", _Of.BAD_REQUEST_PARAMETERS, "invalid_request_error", "bad_parameters", None),
    ("TooLarge", _Of.REQUEST_TOO_LARGE, "invalid_request_error", "request_too_large", 413),
    ("MediaType", _Of.UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", "media_type", 415),
    ("AuthorizerFailure", _Of.AUTHORIZER_FAILURE, "server_error", "authorizer_failed", None),
    ("AuthorizerConfig", _Of.AUTHORIZER_CONFIGURATION_ERROR, "server_error", "authorizer_failed", None),
    ("ApiConfig", _Of.API_CONFIGURATION_ERROR, "server_error", "misconfigured", None),
    ("IntegrationFailure", _Of.INTEGRATION_FAILURE, "server_error", "function_failed", 502),
    ("IntegrationTimeout", _Of.INTEGRATION_TIMEOUT, "timeout_error", "function_timeout", None),
    ("Other4xx", _Of.DEFAULT_4_XX, "invalid_request_error", None, 0),
    ("Other5xx", _Of.DEFAULT_5_XX, "server_error", None, 0),
]

# Where API Gateway's own words would mislead: it says "Missing Authentication Token" of an unknown route.
_MESSAGES = {
    "unknown_route": "There is no such route, or it takes a signed request: check the method and the path.",
    "invalid_api_key": "The API key is missing or not valid: send it as `Authorization: Bearer <key>`, "
    "to /v1/messages as `x-api-key: <key>`.",
}
_SECONDS = {"DAY": 86_400, "WEEK": 604_800, "MONTH": 2_678_400}


def add_gateway_responses(scope: Construct, api: apigateway.RestApi, spec: ApiSettings) -> None:
    """Give every error that API Gateway makes itself our body, the request id, and CORS for browsers."""
    headers = {"x-request-id": "context.requestId", "request-id": "context.requestId"}
    if spec.cors_origins:
        headers["Access-Control-Allow-Origin"] = "'*'"  # the error carries no data and no cookie
    limit_responses = _limit_responses(spec)
    for name, response, error_type, code, status in _RESPONSES:
        apigateway.GatewayResponse(
            scope,
            name,
            rest_api=api,
            type=response,
            status_code=_status(error_type, status),
            response_headers=headers | limit_responses.get(name, ("", {}))[1],
            templates={"application/json": _body(error_type, code, limit_responses.get(name, ("", {}))[0])},
        )


def _limit_responses(spec: ApiSettings) -> dict[str, tuple[str, dict[str, str]]]:
    """The usage plan's two refusals: which limit was reached, and when it resets as far as that is known."""
    rate, quota = spec.throttle, spec.quota
    second = f"{rate.rate_per_second:g} requests per second, {rate.burst} at one moment"
    period = quota.period.lower()
    return {
        "Throttled": (
            f"Too many requests: the limit is {second}. It gives way within a second.",
            {
                "Retry-After": "'1'",
                "x-ratelimit-limit-requests": f"'{rate.burst}'",
                "x-ratelimit-remaining-requests": "'0'",
                "x-ratelimit-reset-requests": "'1s'",
            },
        ),
        "QuotaExceeded": (
            f"The quota of {quota.limit} requests per {period} is used up. It starts again with the next "
            f"{period} (UTC).",
            {
                "x-ratelimit-limit-requests": f"'{quota.limit}'",
                "x-ratelimit-remaining-requests": "'0'",
                # API Gateway does not tell a caller's place in the period: this is the longest it can take.
                "x-ratelimit-reset-requests": f"'{_SECONDS[quota.period]}s'",
            },
        ),
    }


def _status(error_type: ErrorType, status: int | None) -> str | None:
    """The type's usual status; another one where given; 0 leaves API Gateway's own."""
    return None if status == 0 else str(status or STATUS_OF_TYPE[error_type])


def _body(error_type: ErrorType, code: str | None, own: str = "") -> str:
    # messageString brings its own quotes and escapes; contracts.errors holds the shape.
    own = own or _MESSAGES.get(code or "", "")
    message = f'"{own}"' if own else "$context.error.messageString"
    name = f'"{code}"' if code else "null"
    rest = f'"type":"{error_type}","param":null,"code":{name}'
    return f'{{"type":"error","error":{{"message":{message},{rest}}},"request_id":"$context.requestId"}}'
