"""What is known of one request while it passes the gateway, and the `$context` made of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local.cloud.rest_api.configuration import Api, Method, Stage
from local.cloud.rest_api.http_messages import Request


@dataclass(frozen=True)
class ApiLocation:
    """Where the API lives: its account, region and the host name callers used."""

    account: str
    region: str
    domain_name: str = "127.0.0.1"


@dataclass
class RequestContext:
    """One request on its way; the fields below `stage` are filled in as the gateway learns them."""

    request: Request
    location: ApiLocation
    api: Api
    stage: Stage
    method: Method | None = None
    path_parameters: dict[str, str] = field(default_factory=dict)
    authorizer: dict[str, Any] | None = None
    usage_identifier: str | None = None
    api_key: Mapping[str, Any] | None = None
    caller_arn: str | None = None
    integration_seconds: float | None = None

    @property
    def resource_path(self) -> str:
        """The matched resource's path template, or an empty string before a match."""
        return self.method.resource_path if self.method else ""

    @property
    def method_arn(self) -> str:
        """The ARN that `execute-api:Invoke` is asked on."""
        return self._arn(self.request.path)

    @property
    def source_arn(self) -> str:
        """The ARN a function's resource policy sees: it names the resource, not the path asked for."""
        return self._arn(self.resource_path)

    def authorizer_arn(self, authorizer_id: str) -> str:
        """The ARN an authorizer function's resource policy sees."""
        return f"{self._api_arn}/authorizers/{authorizer_id}"

    @property
    def _api_arn(self) -> str:
        return f"arn:aws:execute-api:{self.location.region}:{self.location.account}:{self.api.id}"

    def _arn(self, path: str) -> str:
        return f"{self._api_arn}/{self.stage.name}/{self.request.method}/{path.lstrip('/')}"


def request_time(received_at: float) -> str:
    """A time in the common log format, as `$context.requestTime` has it."""
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(received_at))


def context_variables(call: RequestContext) -> dict[str, str]:
    """The `$context` variables known so far, by their name after `context.`."""
    request = call.request
    values = {
        "accountId": call.location.account,
        "apiId": call.api.id,
        "deploymentId": call.api.deployment_id,
        "domainName": call.location.domain_name,
        "extendedRequestId": request.extended_request_id,
        "httpMethod": request.method,
        "identity.sourceIp": request.source_ip,
        "identity.userAgent": request.header("user-agent"),
        "path": f"/{call.stage.name}{request.path}",
        "protocol": "HTTP/1.1",
        "requestId": request.request_id,
        "requestTime": request_time(request.received_at),
        "requestTimeEpoch": str(int(request.received_at * 1000)),
        "resourcePath": call.resource_path,
        "stage": call.stage.name,
    }
    if call.method:
        values["resourceId"] = call.method.resource_id
    if call.caller_arn:
        values["identity.userArn"] = call.caller_arn
    if call.api_key:
        values["identity.apiKeyId"] = str(call.api_key["id"])
    values |= {f"authorizer.{name}": str(value) for name, value in (call.authorizer or {}).items()}
    return values
