"""A small REST API in the control plane's own shapes, and a gateway that serves it with Python functions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from local.cloud.lambda_service.results import (
    InvokeResult,
    RequestTooLargeError,
    StreamResult,
    TooManyRequestsError,
)
from local.cloud.rest_api.configuration import ApiSource, parse_api, parse_stage
from local.cloud.rest_api.execute_api import CompletedRequest, Deployment, ExecuteApi
from local.cloud.rest_api.gateway_responses import GatewayError
from local.cloud.rest_api.http_messages import Reply, Request
from local.cloud.rest_api.lambda_proxy import STREAM_CONTENT_TYPE
from local.cloud.rest_api.request_context import ApiLocation
from local.cloud.rest_api.routing import RouteTree
from local.cloud.rest_api.usage_plans import UsageMeter, parse_plan

MAX_EVENT_BYTES = 6 * 1024 * 1024
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:"


def uri(name: str) -> str:
    """An integration's URI for a function of this test."""
    return f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{FUNCTION}{name}/invocations"


class RestApiHarness:
    """An API under construction: add routes and functions, then `call` it."""

    def __init__(self) -> None:
        self.functions_by_name: dict[str, Callable[[dict], Any]] = {}
        self.resources: dict[str, dict] = {}
        self.authorizers: list[dict] = []
        self.validators: list[dict] = []
        self.models: list[dict] = []
        self.gateway_responses: list[dict] = []
        self.api: dict[str, Any] = {"id": "api1", "name": "evergreen"}
        self.stage: dict[str, Any] = {"stageName": "live"}
        self.raw_plans: list[tuple[dict, list[dict]]] = []
        self.denied_functions: set[str] = set()
        self.throttled_functions: set[str] = set()
        self.signed_by: str | None = None
        self.now = 1_000_000.0
        self.events: list[dict] = []
        self.completed_requests: list[CompletedRequest] = []
        self.functions = self
        self.use(UsageMeter(lambda: self.now))

    def use(self, meter: UsageMeter) -> None:
        """Start the gateway afresh with this meter, as after a restart."""
        self.meter = meter
        self.gateway = ExecuteApi(
            self, meter, ApiLocation("123456789012", "us-east-1"), self.completed_requests.append
        )

    def route(self, verb: str, path: str, integration: dict | None = None, **method: Any) -> None:
        """Add a method; without an integration it answers through the function `echo`."""
        resource = self.resources.setdefault(
            path, {"id": f"r{len(self.resources)}", "path": path, "resourceMethods": {}}
        )
        chosen = integration or {"type": "AWS_PROXY", "uri": uri("echo")}
        resource["resourceMethods"][verb] = {"httpMethod": verb, "methodIntegration": chosen, **method}

    def proxy(self, function: Callable[[dict], Any], **integration: Any) -> dict:
        """An AWS_PROXY integration of a Python function."""
        name = f"f{len(self.functions_by_name)}"
        self.functions_by_name[name] = function
        return {"type": "AWS_PROXY", "uri": uri(name), **integration}

    def deployment(self) -> Deployment:
        """What is deployed now."""
        source = ApiSource(
            rest_api=self.api,
            resources=list(self.resources.values()),
            authorizers=self.authorizers,
            request_validators=self.validators,
            models=self.models,
            gateway_responses=self.gateway_responses,
        )
        api = parse_api(source, "d1")
        return Deployment(api, parse_stage(self.stage), RouteTree(api.methods))

    def call(self, verb: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Reply:
        """Send one request; a streamed body comes back collected."""
        path, _, query = target.partition("?")
        lines = [(name.lower(), value) for name, value in (headers or {}).items()]
        request = Request(verb, path, query, lines, body)

        async def run() -> Reply:
            reply = await self.gateway.handle(request, self.deployment())
            if isinstance(reply.body, bytes):
                return reply
            return Reply(reply.status, reply.headers, b"".join([piece async for piece in reply.body]))

        return asyncio.run(run())

    async def invoke(self, arn: str, event: dict) -> InvokeResult:
        self.events.append(event)
        if len(json.dumps(event)) > MAX_EVENT_BYTES:
            raise RequestTooLargeError("too large")
        name = arn.removeprefix(FUNCTION)
        if name in self.throttled_functions:
            raise TooManyRequestsError("ReservedFunctionConcurrentInvocationLimitExceeded", "Rate Exceeded.")
        if name == "echo":
            return InvokeResult(
                json.dumps({"statusCode": 200, "body": json.dumps(event)}).encode(), None, "1"
            )
        if name not in self.functions_by_name:
            raise KeyError(name)
        try:
            answer = self.functions_by_name[name](event)
            if asyncio.iscoroutine(answer):
                answer = await answer
        except ArithmeticError as error:
            failure = {"errorMessage": str(error), "errorType": "ArithmeticError"}
            return InvokeResult(json.dumps(failure).encode(), "Unhandled", "1")
        return InvokeResult(json.dumps(answer).encode(), None, "1")

    async def invoke_stream(self, arn: str, event: dict) -> StreamResult:
        self.events.append(event)
        prelude, pieces = self.functions_by_name[arn.removeprefix(FUNCTION)](event)

        async def body() -> AsyncIterator[bytes]:
            for piece in pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece

        return StreamResult("1", STREAM_CONTENT_TYPE, prelude, body())

    def may_invoke(self, function_arn: str, source_arn: str, credentials: str | None) -> bool:
        return function_arn.removeprefix(FUNCTION) not in self.denied_functions

    def iam_caller(self, call: Any) -> str:
        if self.signed_by is None:
            raise GatewayError("MISSING_AUTHENTICATION_TOKEN")
        return self.signed_by

    def plans(self, api_id: str, stage: str) -> list:
        return [parse_plan(plan, keys, api_id, stage) for plan, keys in self.raw_plans]


def header(reply: Reply, name: str) -> list[str]:
    """Every value of a reply's header."""
    return [value for key, value in reply.headers if key.lower() == name.lower()]
