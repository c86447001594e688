"""HTTP: our own services and routes in front of the emulator's, with its check of signatures and policies."""

from __future__ import annotations

import contextvars
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from ministack import app as _app
from ministack.core import iam_evaluator as _iam
from ministack.core import responses as _responses
from ministack.core import router as _router

from local.cloud.adapter_types import (
    AccessDenied,
    HttpHandler,
    HttpRequest,
    HttpResponse,
    Permission,
    StreamingResponse,
)
from local.cloud.ministack_adapter.iam import service_access_keys
from local.cloud.ministack_adapter.scope import account_region, lifespan, log
from local.cloud.ministack_adapter.streaming import asgi_sender

_DEFAULT_BODY_LIMIT = 10 * 1024 * 1024
_READING = ("BatchGet", "Describe", "Get", "List", "Query", "Scan")

_routes: list[tuple[str, HttpHandler, int]] = []
_service_matchers: list[tuple[str, Callable[[str, str, Mapping[str, str]], bool]]] = []
_change_listeners: list[Callable[[], None]] = []
_current_scope: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("evergreen_scope")


def add_service(
    name: str,
    *,
    handler: HttpHandler,
    target_prefix: str | None = None,
    matches: Callable[[str, str, Mapping[str, str]], bool] | None = None,
    permission: Callable[[HttpRequest], Permission | None] | None = None,
) -> None:
    """Serve one AWS service. Requests are recognised by `X-Amz-Target: <target_prefix>.<Operation>` (give
    the prefix with its dot, `SageMaker.`) or by `matches(method, path, headers)`.

    The emulator checks the signature of every request first, and that the caller's policies allow
    `permission(request)`; by default that is `<name>:<Operation>` on `*`. A permission of None allows any
    authenticated caller.
    """
    required = permission or _operation_permission(name)

    async def serve(
        method: str, path: str, headers: dict[str, Any], body: bytes, query: dict[str, Any]
    ) -> tuple[Any, ...]:
        request = _request_in_scope(method, path, headers, body, query)
        needed = required(request)
        if needed is not None:
            outcome = authorize(request, name, needed)
            if isinstance(outcome, AccessDenied):
                return _refusal_reply(outcome)
        return _emulator_reply(await handler(request))

    _app.SERVICE_HANDLERS[name] = serve
    if target_prefix:
        _router.SERVICE_PATTERNS[name] = {"target_prefixes": [target_prefix]}
    if matches:
        _service_matchers.append((name, matches))


def add_http_route(prefix: str, handler: HttpHandler, *, max_body_bytes: int = _DEFAULT_BODY_LIMIT) -> None:
    """Take over every path that starts with `prefix` before the emulator sees it, signature check included:
    the handler is alone responsible for who may call. A larger body is answered 413."""
    _routes.append((prefix, handler, max_body_bytes))
    _routes.sort(key=lambda route: -len(route[0]))


def authorize(request: HttpRequest, service: str, permission: Permission) -> AccessDenied | str:
    """Check a request's SigV4 signature and the caller's policies; answers the caller's ARN, or why not.
    Only for the request being handled. For routes of `add_http_route` that want IAM callers, and inside
    `add_service`."""
    key = _router.extract_access_key_id(dict(request.headers), dict(request.query))
    for resource in permission.resources:
        denied = _iam.enforce(key, permission.action, service, request.region, resource_arn=resource)
        if isinstance(denied, _iam.AuthError):
            return AccessDenied(denied.code, denied.message)
        if denied:
            reason = (
                "with an explicit deny in an identity-based policy"
                if denied.decision == "Deny"
                else f"because no identity-based policy allows the {permission.action} action"
            )
            return AccessDenied(
                "AccessDeniedException",
                f"User: {denied.principal_arn} is not authorized to perform: {permission.action} "
                f"on resource: {resource} {reason}",
            )
    return str(_iam.request_caller_arn(dict(request.headers), dict(request.query)))


def on_operator_change(callback: Callable[[], None]) -> None:
    """Call back after each request that may have changed something, but for those of running functions."""
    _change_listeners.append(callback)


def _operation_permission(service: str) -> Callable[[HttpRequest], Permission | None]:
    def permission(request: HttpRequest) -> Permission | None:
        target = request.headers.get("x-amz-target", "")
        return Permission(f"{service}:{target.rpartition('.')[2]}") if target else None

    return permission


def _refusal_reply(refusal: AccessDenied) -> tuple[Any, ...]:
    body = json.dumps({"__type": refusal.code, "message": refusal.message}).encode()
    headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": refusal.code}
    return refusal.status, headers, body


def _emulator_reply(reply: HttpResponse) -> tuple[Any, ...]:
    if isinstance(reply.body, StreamingResponse):
        return reply.status, reply.headers, _responses.StreamingResponse(asgi_sender(reply.body.chunks))
    return tuple(reply)


def _request_in_scope(
    method: str, path: str, headers: dict[str, Any], body: bytes, query: dict[str, Any]
) -> HttpRequest:
    scope = _current_scope.get({})
    client = scope.get("client") or ("127.0.0.1",)
    return HttpRequest(
        method=method,
        path=path,
        raw_path=(scope.get("raw_path") or path.encode()).decode("latin-1"),
        query_string=scope.get("query_string", b"").decode("latin-1"),
        query=query,
        headers=headers,
        body=body,
        client_ip=client[0],
        request_id=str(uuid.uuid4()),
        account=_responses.get_account_id(),
        region=_responses.get_region(),
        header_lines=[
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in scope.get("headers", ())
        ],
    )


async def application(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """The ASGI application: our own routes first, then the emulator."""
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    _current_scope.set(scope)
    if scope["type"] == "http":
        for prefix, handler, limit in _routes:
            if scope["path"].startswith(prefix):
                await _serve_route(handler, limit, scope, receive, send)
                return
        if _is_change(scope):
            for listener in _change_listeners:
                listener()
    await _app.app(scope, receive, send)


def _is_change(scope: Mapping[str, Any]) -> bool:
    if scope["method"] not in ("POST", "PUT", "PATCH", "DELETE"):
        return False
    headers = _joined_headers(scope["headers"])
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    if operation.startswith(_READING):
        return False
    return _router.extract_access_key_id(headers, {}) not in service_access_keys


async def _serve_route(
    handler: HttpHandler,
    limit: int,
    scope: dict[str, Any],
    receive: Callable[..., Any],
    send: Callable[..., Any],
) -> None:
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    headers = _joined_headers(scope["headers"])
    _pin_caller(scope, headers, query)
    body = await _read_body(receive, limit)
    if body is None:
        payload = b'{"message":"Request Entity Too Large"}'
        await _app._send_if_handled(send, (413, {"Content-Type": "application/json"}, payload), receive)
        return
    _iam.pin_signed_body(body)
    request = _request_in_scope(scope["method"], scope["path"], headers, body, query)
    try:
        reply = await handler(request)
    except Exception:  # noqa: BLE001 - the server's boundary: any fault of a handler is a 500
        log.exception("%s %s failed", request.method, request.path)
        reply = HttpResponse(
            500, {"Content-Type": "application/json"}, b'{"message":"Internal server error"}'
        )
    await _app._send_if_handled(send, _emulator_reply(reply), receive)


def _pin_caller(scope: dict[str, Any], headers: dict[str, str], query: dict[str, Any]) -> None:
    """Give a route's request the identity context that the emulator gives its own."""
    client = (scope.get("client") or ("127.0.0.1",))[0]
    _responses.set_request_client_ip(client)
    _app.pin_request_origin(client, True)
    key = _router.extract_access_key_id(headers, query)
    _responses.set_request_account_id(_app._request_account_scope(key) if key else account_region["account"])
    _responses.set_request_region(_router.extract_region(headers, query))
    raw_path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    _iam.pin_signed_request(scope["method"], raw_path, query, scope["headers"])


def _joined_headers(items: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in items:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        separator = "; " if name == "cookie" else ", "
        headers[name] = headers[name] + separator + value if name in headers else value
    return headers


async def _read_body(receive: Callable[..., Any], limit: int) -> bytes | None:
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client left while sending its request")
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            return None
        if not message.get("more_body", False):
            return b"".join(pieces)


def patch_service_detection() -> None:
    original = _app.detect_service

    def detect(method: str, path: str, headers: dict[str, Any], query: dict[str, Any]) -> str:
        for name, matches in _service_matchers:
            if matches(method, path, headers):
                return name
        return str(original(method, path, headers, query))

    _app.detect_service = detect


def treat_loopback_as_secure() -> None:
    """Our buckets, like CDK's own, refuse plain HTTP (`aws:SecureTransport`). Clients reach this server on
    the loopback interface only, which no other machine can listen to: it stands in for TLS."""
    original = _app.pin_request_origin
    _app.pin_request_origin = lambda address, _secure: original(address, True)
