"""AWS_PROXY integrations: the call to the function, and what its answer becomes.

Buffered answers are one JSON object; streamed ones are a JSON prelude followed by the body, which is handed
on piece by piece and never collected. Rules: developer guide, "Output format of a Lambda function for proxy
integration" and "Lambda proxy integration format for response streaming".
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

from local.cloud.lambda_service.results import (
    InvokeResult,
    RequestTooLargeError,
    StreamError,
    StreamResult,
    TooManyRequestsError,
)
from local.cloud.rest_api.configuration import Integration
from local.cloud.rest_api.events import media_type_matches, proxy_event
from local.cloud.rest_api.gateway_responses import GatewayError
from local.cloud.rest_api.http_messages import Headers, Reply, has_header
from local.cloud.rest_api.request_context import RequestContext

STREAM_CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
STREAM_IDLE_SECONDS = 300.0
REMAPPED = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "content-md5",
        "date",
        "host",
        "max-forwards",
        "server",
        "user-agent",
        "www-authenticate",
    }
)
"""Headers of a function that API Gateway hands on under `x-amzn-Remapped-<name>`."""
DROPPED = frozenset(["te", "trailer", "transfer-encoding", "upgrade", "via"])

T = TypeVar("T")


class Functions(Protocol):
    """How functions are run. Both raise KeyError for one that is not there, RequestTooLargeError and
    TooManyRequestsError; `invoke_stream` raises StreamError when the function fails before it answers."""

    async def invoke(self, arn: str, event: Any) -> InvokeResult: ...

    async def invoke_stream(self, arn: str, event: Any) -> StreamResult: ...


async def buffered(call: RequestContext, integration: Integration, functions: Functions) -> Reply:
    """Run the function to its end and turn its answer into a reply."""
    event = proxy_event(call)
    result = await _timed(call, integration, lambda: functions.invoke(integration.function, event))
    if result.function_error:
        raise _bad_gateway(f"the function failed: {result.payload[:512]!r}")
    try:
        answer = json.loads(result.payload)
    except ValueError as error:
        raise _bad_gateway("the function's answer is not JSON") from error
    return proxy_reply(answer, call)


async def streamed(call: RequestContext, integration: Integration, functions: Functions) -> Reply:
    """Start the function and answer as soon as its prelude is there."""
    event = proxy_event(call)
    deadline = time.monotonic() + integration.timeout_seconds
    try:
        result = await _timed(call, integration, lambda: functions.invoke_stream(integration.function, event))
    except StreamError as error:
        raise _bad_gateway(f"the function failed before its answer: {error.error_type}") from error
    if result.prelude is None or result.content_type.split(";", 1)[0] != STREAM_CONTENT_TYPE:
        await _close(result.body)
        raise _bad_gateway("a streamed answer needs its JSON prelude and eight NUL bytes")
    try:
        status, headers = _head(result.prelude)
        headers += [("Set-Cookie", str(cookie)) for cookie in result.prelude.get("cookies") or []]
    except GatewayError:
        await _close(result.body)
        raise
    return Reply(status, headers, _forward(result.body, deadline))


def proxy_reply(answer: Any, call: RequestContext) -> Reply:
    """A buffered proxy answer as a reply; raises the 502 that a malformed one gets."""
    if not isinstance(answer, dict):
        raise _malformed("it is not an object")
    status, headers = _head(answer)
    body = answer.get("body")
    if body is not None and not isinstance(body, str):
        raise _malformed("'body' is not a string")
    content = (body or "").encode()
    accepted = media_type_matches(call.request.header("accept"), call.api.binary_media_types)
    if answer.get("isBase64Encoded") and accepted:
        try:
            content = base64.b64decode(content, validate=True)
        except binascii.Error as error:
            raise GatewayError("API_CONFIGURATION_ERROR", reason="the body is not base64") from error
    return Reply(status, headers, content)


async def _timed(call: RequestContext, integration: Integration, start: Callable[[], Awaitable[T]]) -> T:
    """Wait for a function at most as long as the integration does; the function itself runs on."""
    started = time.perf_counter()
    task = asyncio.ensure_future(start())
    try:
        done, _ = await asyncio.wait({task}, timeout=integration.timeout_seconds)
    except asyncio.CancelledError:
        _abandon(task)
        raise
    finally:
        call.integration_seconds = time.perf_counter() - started
    if not done:
        _abandon(task)
        raise GatewayError("INTEGRATION_TIMEOUT", reason="the integration timed out")
    try:
        return task.result()
    except KeyError as error:
        raise GatewayError("API_CONFIGURATION_ERROR", reason=f"no function {error}") from error
    except RequestTooLargeError as error:
        raise GatewayError("REQUEST_TOO_LARGE", reason=str(error)) from error
    except TooManyRequestsError as error:
        raise GatewayError("API_CONFIGURATION_ERROR", reason=f"the function is throttled: {error}") from error


_abandoned: set[asyncio.Future[Any]] = set()


def _abandon(task: asyncio.Future[Any]) -> None:
    """Let an invocation finish without anybody waiting: a late stream is closed, a late error read."""

    def finished(future: asyncio.Future[Any]) -> None:
        _abandoned.discard(future)
        if not future.cancelled() and not future.exception() and isinstance(future.result(), StreamResult):
            closing = asyncio.ensure_future(_close(future.result().body))
            _abandoned.add(closing)
            closing.add_done_callback(_abandoned.discard)

    _abandoned.add(task)
    task.add_done_callback(finished)


async def _forward(body: AsyncIterator[bytes], deadline: float) -> AsyncIterator[bytes]:
    """Hand pieces on as they come; TimeoutError, like a StreamError, cuts the connection."""
    try:
        while True:
            patience = min(STREAM_IDLE_SECONDS, deadline - time.monotonic())
            async with asyncio.timeout(max(0.0, patience)):  # unlike wait_for it makes no task per piece
                piece = await anext(body, None)
            if piece is None:
                return
            yield piece
    finally:
        await _close(body)


async def _close(body: AsyncIterator[bytes]) -> None:
    if close := getattr(body, "aclose", None):
        await close()


def _head(answer: dict[str, Any]) -> tuple[int, Headers]:
    status = answer.get("statusCode")
    if isinstance(status, str) and status.isdigit():
        status = int(status)
    if not isinstance(status, int) or isinstance(status, bool) or not 100 <= status <= 599:
        raise _malformed("'statusCode' is not a status")
    single, several = answer.get("headers") or {}, answer.get("multiValueHeaders") or {}
    if not isinstance(single, dict) or not isinstance(several, dict):
        raise _malformed("headers are not an object")
    repeated = {name.lower() for name in several}
    headers = [_line(name, value) for name, value in single.items() if name.lower() not in repeated]
    for name, values in several.items():
        if not isinstance(values, list):
            raise _malformed(f"the values of '{name}' are not a list")
        headers += [_line(name, value) for value in values]
    headers = [(name, value) for name, value in headers if name.lower() not in DROPPED]
    if not has_header(headers, "content-type"):
        headers.append(("Content-Type", "application/json"))
    return status, headers


def _line(name: str, value: Any) -> tuple[str, str]:
    if isinstance(value, bool):
        value = "true" if value else "false"
    if not isinstance(value, str | int | float) or "\n" in str(value) or "\r" in str(value):
        raise _malformed(f"the value of '{name}' is not a header value")
    return (f"x-amzn-Remapped-{name}" if name.lower() in REMAPPED else name), str(value)


def _malformed(reason: str) -> GatewayError:
    return _bad_gateway(f"malformed proxy answer: {reason}")


def _bad_gateway(reason: str) -> GatewayError:
    return GatewayError("DEFAULT_5XX", status=502, reason=reason)
