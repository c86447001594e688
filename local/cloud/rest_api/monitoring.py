"""What API Gateway tells CloudWatch about a request: metrics, and the stage's access log line."""

from __future__ import annotations

import re
from typing import Any

from local.cloud.rest_api.execute_api import CompletedRequest
from local.cloud.rest_api.request_context import context_variables

NAMESPACE = "AWS/ApiGateway"
_VARIABLE = re.compile(r"\$context\.([A-Za-z][\w.-]*\w)")
_LOG_GROUP = re.compile(r"^arn:[\w-]+:logs:[^:]*:[^:]*:log-group:(?P<name>[^:]+)(?::\*)?$")


def metric_data(completed: CompletedRequest) -> list[dict[str, Any]]:
    """One request in the shape of PutMetricData, for the API and for its stage; times in ms."""
    call = completed.call
    values: list[tuple[str, str, float]] = [
        ("Count", "Count", 1.0),
        ("4XXError", "Count", float(400 <= completed.status < 500)),
        ("5XXError", "Count", float(completed.status >= 500)),
        ("Latency", "Milliseconds", completed.seconds * 1000),
    ]
    if call.integration_seconds is not None:
        values.append(("IntegrationLatency", "Milliseconds", call.integration_seconds * 1000))
    api = {"Name": "ApiName", "Value": call.api.name}
    stage = {"Name": "Stage", "Value": call.stage.name}
    return [
        {"MetricName": name, "Unit": unit, "Value": value, "Dimensions": dimensions}
        for dimensions in ([api], [api, stage])
        for name, unit, value in values
    ]


def access_log_line(completed: CompletedRequest) -> str:
    """The stage's access log format with its `$context` variables filled in; unknown ones become `-`."""
    call, error = completed.call, completed.error
    values = context_variables(call) | {
        "status": str(completed.status),
        "responseLength": str(completed.sent),
        "responseLatency": str(round(completed.seconds * 1000)),
    }
    if call.integration_seconds is not None:
        latency = str(round(call.integration_seconds * 1000))
        values |= {"integrationLatency": latency, "integration.latency": latency}
    if error is not None:
        values |= {
            "error.message": error.message or "-",
            "error.messageString": f'"{error.message}"',
            "error.responseType": error.type,
        }
    return _VARIABLE.sub(lambda found: values.get(found[1]) or "-", call.stage.access_log_format)


def log_group_of(arn: str) -> str:
    """The log group's name inside an access log destination, or an empty string for another destination."""
    found = _LOG_GROUP.match(arn)
    return found["name"] if found else ""
