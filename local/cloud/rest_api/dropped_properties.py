"""CloudFormation properties of API Gateway that the emulator drops, put back onto its records.

Each function takes the live API, a resource's physical id and its properties, and writes what the control
plane would hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from local.cloud.adapter_types import RestApi

Properties = Mapping[str, Any]


def restore_rest_api(live: RestApi, _id: str, properties: Properties) -> None:
    """`ApiKeySourceType` and `DisableExecuteApiEndpoint` are lost when an API is created."""
    _put(live.api, "apiKeySource", properties.get("ApiKeySourceType") or "HEADER")
    _put(live.api, "disableExecuteApiEndpoint", properties.get("DisableExecuteApiEndpoint") or False)


def restore_method(live: RestApi, _id: str, properties: Properties) -> None:
    """`RequestValidatorId`, and of the integration `ResponseTransferMode` and `ContentHandling`."""
    method = live.resources[properties["ResourceId"]]["resourceMethods"][properties["HttpMethod"]]
    _put(method, "requestValidatorId", properties.get("RequestValidatorId"))
    wanted, integration = properties.get("Integration") or {}, method.get("methodIntegration")
    if integration is not None:
        _put(integration, "responseTransferMode", wanted.get("ResponseTransferMode") or "BUFFERED")
        _put(integration, "contentHandling", wanted.get("ContentHandling"))


def restore_stage(live: RestApi, _id: str, properties: Properties) -> None:
    """`AccessLogSetting`."""
    logs = properties.get("AccessLogSetting") or {}
    settings = {"destinationArn": logs.get("DestinationArn"), "format": logs.get("Format")}
    stage = live.stages[properties["StageName"]]
    _put(stage, "accessLogSettings", {name: value for name, value in settings.items() if value})


def restore_validator(live: RestApi, validator_id: str, properties: Properties) -> None:
    """The whole request validator: the emulator gives it an id and nothing else."""
    validator = {
        "id": validator_id,
        "name": properties.get("Name") or validator_id,
        "validateRequestBody": _truth(properties.get("ValidateRequestBody")),
        "validateRequestParameters": _truth(properties.get("ValidateRequestParameters")),
    }
    _put(live.validators, validator_id, validator)


DROPPED_PROPERTIES: dict[str, Callable[[RestApi, str, Properties], None]] = {
    "AWS::ApiGateway::Method": restore_method,
    "AWS::ApiGateway::RequestValidator": restore_validator,
    "AWS::ApiGateway::RestApi": restore_rest_api,
    "AWS::ApiGateway::Stage": restore_stage,
}
"""By resource type. Properties name their API in `RestApiId`, but for the API itself."""


def _truth(value: Any) -> bool:
    """CloudFormation booleans may arrive as text."""
    return str(value).lower() == "true"


def _put(record: Any, name: str, value: Any) -> None:
    record[name] = value
