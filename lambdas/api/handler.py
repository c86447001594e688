"""Entry of the buffered routes: which path leads to which function of the service, and errors' one shape."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from lambdas.api.openapi import document
from lambdas.api.playground import page
from lambdas.api.service import from_environment
from lambdas.runtime import environment, logs
from lambdas.runtime import http_event as requests
from lambdas.runtime.errors import ApiError, to_api_error

_service = from_environment(environment.variables())
_logger = logs.Logger("api", environment.optional("LOG_LEVEL") or "INFO")
_app = APIGatewayRestResolver(strip_prefixes=["/iam"])  # callers with AWS credentials use the same routes


@_app.get("/health")
def _health() -> Response[str]:
    return _json(200, '{"status":"ok"}')


@_app.get("/playground")
def _playground() -> Response[str]:
    text, headers = page()
    return Response(
        status_code=200, content_type="text/html; charset=utf-8", body=text, headers=dict(headers)
    )


@_app.get("/v1/openapi.json")
def _openapi() -> Response[str]:
    return _json(200, json.dumps(document()))


@_app.get("/v1/models")
def _models() -> Response[str]:
    return _json(200, _service.models(_scopes()).model_dump_json(exclude_none=True))


@_app.get("/v1/models/<model>")
def _model(model: str) -> Response[str]:
    return _json(
        200, _service.model(urllib.parse.unquote(model), _scopes()).model_dump_json(exclude_none=True)
    )


@_app.post("/v1/feedback")
def _feedback() -> Response[str]:
    receipt = _service.feedback(_tenant(), requests.body_bytes(_app.current_event.raw_event))
    return _json(201, receipt.model_dump_json())


@_app.get("/v1/usage")
def _usage() -> Response[str]:
    asked = _app.current_event.raw_event.get("queryStringParameters") or {}
    return _json(200, _service.usage(_tenant(), asked.get("start"), asked.get("end")).model_dump_json())


@_app.not_found
def _unknown_route(_: NotFoundError) -> Response[str]:
    return _error(ApiError("not_found_error", "There is no such route.", code="unknown_route"))


@_app.exception_handler(Exception)  # type: ignore[untyped-decorator]
def _failed(error: Exception) -> Response[str]:
    api_error = to_api_error(error)
    if api_error is not error and api_error.is_server_error:
        _logger.failure("unhandled_exception", error)
    return _error(api_error)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one buffered request."""
    request_id = requests.request_id(event)
    logs.correlate(request_id, environment.trace_id())
    reply: dict[str, Any] = _app.resolve({**event, "httpMethod": requests.verb(event)}, context)
    if requests.is_head(event):
        reply |= {"body": "", "isBase64Encoded": False}
    added = {"x-request-id": request_id, **_service.cors(requests.headers(event).get("origin"))}
    reply.setdefault("multiValueHeaders", {}).update({name: [value] for name, value in added.items()})
    _logger.info("request", status=reply["statusCode"])
    return reply


def _caller() -> Mapping[str, str]:
    """Who calls, as the authorizer in front found out. Raises ApiError 403 for an unknown principal."""
    event = _app.current_event.raw_event
    if arn := requests.principal(event):
        return _service.principal(arn)
    caller: Mapping[str, str] = event["requestContext"].get("authorizer") or {}
    return caller


def _scopes() -> frozenset[str]:
    return frozenset(_caller().get("scopes", "").split())


def _tenant() -> str:
    """The caller's tenant. Raises ApiError 401 where there is none."""
    tenant = _caller().get("tenant")
    if not tenant:
        raise ApiError("authentication_error", "A valid API key is needed.", code="invalid_api_key")
    return str(tenant)


def _json(status: int, body: str) -> Response[str]:
    return Response(status_code=status, content_type="application/json", body=body)


def _error(error: ApiError) -> Response[str]:
    headers: dict[str, Any] = dict(error.headers)
    return Response(status_code=error.status, headers=headers, body=error.body)
