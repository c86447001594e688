"""Request validators: required parameters, and bodies against JSON Schema draft 4 models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft4Validator
from jsonschema.exceptions import SchemaError

from local.cloud.rest_api.gateway_responses import GatewayError
from local.cloud.rest_api.request_context import RequestContext


def validate(call: RequestContext) -> None:
    """Apply the method's request validator, parameters first; raises GatewayError."""
    assert call.method is not None
    validator = call.method.validator
    if validator is None:
        return
    if validator.parameters:
        _check_parameters(call, call.method.request_parameters)
    if validator.body:
        _check_body(call, call.method.request_models)


def _check_parameters(call: RequestContext, parameters: Mapping[str, bool]) -> None:
    missing = [
        name for name, value in _parameter_values(call, parameters).items() if parameters[name] and not value
    ]
    if missing:
        names = ", ".join(name.split(".", 3)[3] for name in missing)
        raise GatewayError("BAD_REQUEST_PARAMETERS", f"Missing required request parameters: [{names}]")


def _parameter_values(call: RequestContext, names: Mapping[str, bool]) -> dict[str, str]:
    values = {}
    for name in names:
        _, _, location, key = name.split(".", 3)
        if location == "header":
            values[name] = call.request.header(key)
        elif location == "querystring":
            values[name] = call.request.query_value(key)
        else:
            values[name] = call.path_parameters.get(key, "")
    return values


def _check_body(call: RequestContext, models: Mapping[str, str]) -> None:
    content_type = (call.request.header("content-type") or "application/json").split(";", 1)[0].strip()
    name = models.get(content_type) or models.get("$default")
    if not name:
        return
    schema = call.api.models.get(name)
    if schema is None:
        raise GatewayError("API_CONFIGURATION_ERROR", reason=f"the model {name} is not part of the API")
    try:
        document = json.loads(call.request.body)
    except (ValueError, RecursionError) as error:
        raise GatewayError("BAD_REQUEST_BODY", reason=f"[{error}]") from error
    problems = [problem.message for problem in _validator(_text(schema)).iter_errors(document)]
    if problems:
        raise GatewayError("BAD_REQUEST_BODY", reason=f"[{', '.join(problems)}]")


def _text(schema: Any) -> str:
    return schema if isinstance(schema, str) else json.dumps(schema)


@lru_cache(maxsize=256)
def _validator(schema: str) -> Draft4Validator:
    """A compiled model. A `$ref` to another model of the API cannot be resolved and fails the request."""
    try:
        document = json.loads(schema or "{}")
        Draft4Validator.check_schema(document)
    except (ValueError, SchemaError) as error:
        raise GatewayError("API_CONFIGURATION_ERROR", reason=f"a model is not a schema: {error}") from error
    return Draft4Validator(document)
