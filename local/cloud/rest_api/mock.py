"""MOCK integrations, as CORS preflights use them: a status from the request template, a canned answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from local.cloud.rest_api.configuration import Integration
from local.cloud.rest_api.gateway_responses import GatewayError
from local.cloud.rest_api.http_messages import Headers, Reply, set_header
from local.cloud.rest_api.mapping_templates import TemplateError, render
from local.cloud.rest_api.request_context import RequestContext, context_variables

_STATUS = re.compile(r"""["']?statusCode["']?\s*:\s*["']?(\d{3})""")


def answer(call: RequestContext, integration: Integration) -> Reply:
    """The reply of a MOCK integration; raises GatewayError where AWS finds the configuration wanting."""
    found = _STATUS.search(_request_text(call, integration))
    if not found:
        raise _configuration("the request template of a MOCK integration gives no statusCode")
    response = _select(integration.responses, found[1])
    headers: Headers = [("Content-Type", "application/json")]
    variables = {f"context.{name}": value for name, value in context_variables(call).items()}
    variables |= {f"stageVariables.{name}": value for name, value in call.stage.variables.items()}
    for destination, source in (response.get("responseParameters") or {}).items():
        text = str(source)
        value = text[1:-1] if text.startswith("'") else variables.get(text)
        if value is not None:
            set_header(headers, destination.removeprefix("method.response.header."), value)
    template = (response.get("responseTemplates") or {}).get("application/json") or ""
    try:
        rendered = render(template, variables, call.request)
    except TemplateError as error:
        raise _configuration(str(error)) from error
    for name, value in rendered.headers.items():
        set_header(headers, name, value)
    return Reply(int(response.get("statusCode") or found[1]), headers, rendered.text.encode())


def _request_text(call: RequestContext, integration: Integration) -> str:
    content_type = (call.request.header("content-type") or "application/json").split(";", 1)[0].strip()
    templates = integration.request_templates
    if content_type in templates:
        return templates[content_type]
    if integration.passthrough == "NEVER" or (integration.passthrough == "WHEN_NO_TEMPLATES" and templates):
        raise GatewayError("UNSUPPORTED_MEDIA_TYPE")
    return call.request.body.decode("utf-8", errors="replace")


def _select(responses: Mapping[str, Mapping[str, Any]], status: str) -> Mapping[str, Any]:
    default = None
    for response in responses.values():
        pattern = response.get("selectionPattern")
        if not pattern:
            default = default or response
        elif re.fullmatch(pattern, status):
            return response
    if default is None:
        raise _configuration(f"no integration response matches status {status}")
    return default


def _configuration(reason: str) -> GatewayError:
    return GatewayError("API_CONFIGURATION_ERROR", reason=reason)
