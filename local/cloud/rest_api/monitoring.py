"""What API Gateway tells CloudWatch about a request: metrics, and the stage's access log line."""

from __future__ import annotations

import re
from typing import Any

from local.cloud.rest_api.execute_api import Outcome
from local.cloud.rest_api.request_context import context_variables

NAMESPACE = "AWS/ApiGateway"
_VARIABLE = re.compile(r"\$context\.([A-Za-z][\w.-]*\w)")
_LOG_GROUP = re.compile(r"^arn:[\w-]+:logs:[^:]*:[^:]*:log-group:(?P<name>[^:]+)(?::\*)?$")


def metric_data(outcome: Outcome) -> list[dict[str, Any]]:
    """One request in the shape of PutMetricData, for the API and for its stage; times in ms."""
    call = outcome.call
    values: list[tuple[str, str, float]] = [
        ("Count", "Count", 1.0),
        ("4XXError", "Count", float(400 <= outcome.status < 500)),
        ("5XXError", "Count", float(outcome.status >= 500)),
        ("Latency", "Milliseconds", outcome.seconds * 1000),
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


def access_log_line(outcome: Outcome) -> str:
    """The stage's access log format with its `$context` variables filled in; unknown ones become `-`."""
    call, error = outcome.call, outcome.error
    values = context_variables(call) | {
        "status": str(outcome.status),
        "responseLength": str(outcome.sent),
        "responseLatency": str(round(outcome.seconds * 1000)),
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
