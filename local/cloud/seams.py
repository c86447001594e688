"""The one door to the emulator: every private name of ministack that Evergreen uses is used here.

`REQUIRED` lists those names; `missing_names` says in plain words which of them a new version lacks. Other
modules of `local` see `seam_types` and the functions below and never import ministack themselves. Import this
module after the emulator's environment variables are set (`local.cloud.__main__` does).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from ministack import app as _app
from ministack.core import iam_evaluator as _iam
from ministack.core import persistence as _persistence
from ministack.core import responses as _responses
from ministack.core import router as _router
from ministack.services import apigateway_v1 as _apigw
from ministack.services import cloudformation as _cloudformation
from ministack.services import cloudwatch as _cloudwatch
from ministack.services import cloudwatch_logs as _logs
from ministack.services import eventbridge as _events
from ministack.services import iam as _iam_service
from ministack.services import lambda_svc as _lambda
from ministack.services import s3 as _s3
from ministack.services import sns as _sns
from ministack.services import sts as _sts
from ministack.services.cloudformation import provisioners as _provisioners
from ministack.services.cloudformation import stacks as _stacks

from local.cloud.seam_types import (
    CreateResource,
    Credentials,
    DeleteResource,
    Function,
    Handler,
    HttpRequest,
    Permission,
    Refusal,
    Reply,
    RestApi,
    StreamingResponse,
    UpdateResource,
    UsagePlan,
)

__all__ = [
    "Credentials",
    "Function",
    "Handler",
    "HttpRequest",
    "Permission",
    "Refusal",
    "Reply",
    "RestApi",
    "StreamingResponse",
    "UsagePlan",
]

_log = logging.getLogger("evergreen.cloud")
_SHUTDOWN_SECONDS = 20.0
_SESSION_SECONDS = 12 * 3600
_DEFAULT_BODY_LIMIT = 10 * 1024 * 1024

_routes: list[tuple[str, Handler, int]] = []
_startup: list[Callable[[], Awaitable[None]]] = []
_shutdown: list[Callable[[], Awaitable[None]]] = []
_states: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], None]]] = {}
_service_matchers: list[tuple[str, Callable[[str, str, Mapping[str, str]], bool]]] = []
_worker_types: set[str] = set()
_current_scope: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("evergreen_scope")
_change_listeners: list[Callable[[], None]] = []
_service_keys: set[str] = set()
_READING = ("BatchGet", "Describe", "Get", "List", "Query", "Scan")
_OWN_STATE = "own-"
_home: dict[str, str] = {"account": "", "region": ""}


# ---- HTTP --------------------------------------------------------------------------------------------------


def add_service(
    name: str,
    *,
    handler: Handler,
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

    async def serve(method: str, path: str, headers: dict, body: bytes, query: dict) -> tuple:
        request = _request_in_scope(method, path, headers, body, query)
        needed = required(request)
        if needed is not None:
            outcome = authorize(request, name, needed)
            if isinstance(outcome, Refusal):
                return _refusal_reply(outcome)
        return _emulator_reply(await handler(request))

    _app.SERVICE_HANDLERS[name] = serve
    if target_prefix:
        _router.SERVICE_PATTERNS[name] = {"target_prefixes": [target_prefix]}
    if matches:
        _service_matchers.append((name, matches))


def add_http_route(prefix: str, handler: Handler, *, max_body_bytes: int = _DEFAULT_BODY_LIMIT) -> None:
    """Take over every path that starts with `prefix` before the emulator sees it, signature check included:
    the handler is alone responsible for who may call. A larger body is answered 413."""
    _routes.append((prefix, handler, max_body_bytes))
    _routes.sort(key=lambda route: -len(route[0]))


def authorize(request: HttpRequest, service: str, permission: Permission) -> Refusal | str:
    """Check a request's SigV4 signature and the caller's policies; answers the caller's ARN, or why not.
    Only for the request being handled. For routes of `add_http_route` that want IAM callers, and inside
    `add_service`."""
    key = _router.extract_access_key_id(dict(request.headers), dict(request.query))
    for resource in permission.resources:
        denied = _iam.enforce(key, permission.action, service, request.region, resource_arn=resource)
        if isinstance(denied, _iam.AuthError):
            return Refusal(denied.code, denied.message)
        if denied:
            reason = (
                "with an explicit deny in an identity-based policy"
                if denied.decision == "Deny"
                else f"because no identity-based policy allows the {permission.action} action"
            )
            return Refusal(
                "AccessDeniedException",
                f"User: {denied.principal_arn} is not authorized to perform: {permission.action} "
                f"on resource: {resource} {reason}",
            )
    return _iam.request_caller_arn(dict(request.headers), dict(request.query))


def _operation_permission(service: str) -> Callable[[HttpRequest], Permission | None]:
    def permission(request: HttpRequest) -> Permission | None:
        target = request.headers.get("x-amz-target", "")
        return Permission(f"{service}:{target.rpartition('.')[2]}") if target else None

    return permission


def _refusal_reply(refusal: Refusal) -> tuple:
    body = json.dumps({"__type": refusal.code, "message": refusal.message}).encode()
    headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": refusal.code}
    return refusal.status, headers, body


def _emulator_reply(reply: Reply) -> tuple:
    if isinstance(reply.body, StreamingResponse):
        return reply.status, reply.headers, _responses.StreamingResponse(_runner(reply.body.chunks))
    return tuple(reply)


def _runner(chunks: AsyncIterator[bytes]) -> Callable[..., Awaitable[None]]:
    """Pump the iterator into ASGI. The last frame is sent only when the iterator ended well, so that a
    broken stream reaches the client as a truncated body."""

    async def pump(send: Callable[..., Awaitable[None]]) -> None:
        async for chunk in chunks:
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def until_gone(receive: Callable[[], Awaitable[dict]]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def run(send: Callable[..., Awaitable[None]], receive: Callable[[], Awaitable[dict]]) -> None:
        pumping = asyncio.ensure_future(pump(send))
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            await asyncio.wait({pumping, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not pumping.done():
                return
            try:
                pumping.result()
            except Exception as error:
                _log.warning("a streamed reply was cut off: %s", error)
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            for task in (pumping, gone):
                task.cancel()
            await asyncio.gather(pumping, gone, return_exceptions=True)
            close = getattr(chunks, "aclose", None)
            if close:
                await close()

    return run


def _request_in_scope(method: str, path: str, headers: dict, body: bytes, query: dict) -> HttpRequest:
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
    )


async def application(scope: dict[str, Any], receive: Callable, send: Callable) -> None:
    """The ASGI application: our own routes first, then the emulator."""
    if scope["type"] == "lifespan":
        await _lifespan(scope, receive, send)
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


async def _serve_route(handler: Handler, limit: int, scope: dict, receive: Callable, send: Callable) -> None:
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
    except Exception:
        _log.exception("%s %s failed", request.method, request.path)
        reply = Reply(500, {"Content-Type": "application/json"}, b'{"message":"Internal server error"}')
    await _app._send_if_handled(send, _emulator_reply(reply), receive)


def _pin_caller(scope: dict, headers: dict[str, str], query: dict) -> None:
    """Give a route's request the identity context that the emulator gives its own."""
    client = (scope.get("client") or ("127.0.0.1",))[0]
    _responses.set_request_client_ip(client)
    _app.pin_request_origin(client, True)
    key = _router.extract_access_key_id(headers, query)
    _responses.set_request_account_id(_app._request_account_scope(key) if key else _home["account"])
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


async def _read_body(receive: Callable, limit: int) -> bytes | None:
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


async def _lifespan(scope: dict, receive: Callable, send: Callable) -> None:
    async def receive_and_stop() -> dict:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await _run_shutdown()
        return message

    async def start_and_send(message: dict) -> None:
        if message["type"] == "lifespan.startup.complete":
            try:
                for callback in _startup:
                    await callback()
            except Exception as error:
                _log.exception("the laptop cloud could not start")
                message = {"type": "lifespan.startup.failed", "message": str(error)}
        await send(message)

    await _app.app(scope, receive_and_stop, start_and_send)


async def _run_shutdown() -> None:
    for callback in reversed(_shutdown):
        try:
            await asyncio.wait_for(callback(), _SHUTDOWN_SECONDS)
        except Exception:
            # One part that cannot stop must not keep the others from stopping.
            _log.exception("a part of the laptop cloud did not stop cleanly")


# ---- CloudFormation ----------------------------------------------------------------------------------------


def add_resource_type(
    type_name: str,
    *,
    create: CreateResource,
    update: UpdateResource,
    delete: DeleteResource,
    create_only: Sequence[str] = (),
) -> None:
    """Teach CloudFormation a type. All three run on a worker thread, so they may block (use `call` to reach
    async code). An exception fails the resource with its text as the reason.

    `create(logical_id, properties, stack_name) -> (physical_id, attributes)`;
    `update(physical_id, old_properties, new_properties, stack_name) -> (physical_id, attributes)`;
    `delete(physical_id, properties)`. A change of a `create_only` property makes CloudFormation create a new
    resource and delete the old one at the end (`"*"`: any change but of Tags).
    """

    def replace_or_update(
        physical_id: str, old: dict[str, Any], new: dict[str, Any], stack_name: str, logical_id: str
    ) -> tuple[str, dict[str, Any]]:
        changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        if changed & set(create_only) or ("*" in create_only and changed - {"Tags"}):
            return create(logical_id, new, stack_name)
        return update(physical_id, old, new, stack_name)

    _provisioners._RESOURCE_HANDLERS[type_name] = {
        "create": create,
        "update": replace_or_update,
        "update_with_logical_id": True,
        "delete": delete,
    }
    _worker_types.add(type_name)
    _provisioners._STACK_TAG_PROPERTY.setdefault(type_name, ("Tags", "list"))


def on_api_deployment(callback: Callable[[str, str], None]) -> None:
    """Call `callback(api_id, deployment_id)` for every new deployment of a REST API, by whichever way."""
    create = _apigw._create_deployment

    def created(api_id: str, data: dict[str, Any]) -> tuple:
        reply = create(api_id, data)
        if reply[0] == 201:
            callback(api_id, json.loads(reply[2])["id"])
        return reply

    _apigw._create_deployment = created


def after_provisioning(
    type_name: str, callback: Callable[[str, Mapping[str, Any]], None], *, blocking: bool = False
) -> None:
    """Run `callback(physical_id, properties)` after the emulator created or updated a resource of one of its
    own types: the place to put back what it drops. An exception fails the resource. A `blocking` callback
    runs on a worker thread and may call the AWS APIs."""
    handlers = _provisioners._RESOURCE_HANDLERS[type_name]
    create, update = handlers["create"], handlers.get("update")

    def create_and_call(logical_id: str, properties: dict[str, Any], stack_name: str) -> tuple:
        created = create(logical_id, properties, stack_name)
        callback(created[0], properties)
        return created

    def update_and_call(physical_id: str, old: dict, new: dict, stack_name: str, *logical_id: str) -> tuple:
        updated = update(physical_id, old, new, stack_name, *logical_id)
        callback(updated[0], new)
        return updated

    handlers["create"] = create_and_call
    if update:
        handlers["update"] = update_and_call
    if blocking:
        _worker_types.add(type_name)


# ---- telemetry ---------------------------------------------------------------------------------------------


def put_metric_data(namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
    """Store CloudWatch metrics; `data` in the shape of PutMetricData's MetricData. AWS's own namespaces are
    accepted. Alarms see them at their next evaluation. May be called from any thread."""
    with _home_scope():
        for datum in data:
            dimensions = {item["Name"]: item["Value"] for item in datum.get("Dimensions", [])}
            _cloudwatch._store_datum(
                namespace,
                datum["MetricName"],
                dimensions,
                _cloudwatch._parse_ts(datum.get("Timestamp")) or time.time(),
                datum.get("Unit", "None"),
                datum.get("Value"),
                datum.get("Values"),
                datum.get("Counts"),
                datum.get("StatisticValues"),
            )


def evaluate_alarms() -> None:
    """Bring every alarm's state up to date; blocking, for a worker thread."""
    with _home_scope():
        _cloudwatch._evaluate_all_alarms()


def put_log_events(group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
    """Append `(milliseconds since the epoch, message)` to a log stream; group and stream are created when
    missing. May be called from any thread."""
    with _home_scope():
        if group not in _logs._log_groups:
            _logs._create_log_group({"logGroupName": group})
        if stream not in _logs._log_groups[group]["streams"]:
            _logs._create_log_stream({"logGroupName": group, "logStreamName": stream})
        entries = [{"timestamp": moment, "message": message} for moment, message in events]
        _logs._put_log_events({"logGroupName": group, "logStreamName": stream, "logEvents": entries})


def emit_event(
    source: str, detail_type: str, detail: Mapping[str, Any], resources: Sequence[str] = ()
) -> None:
    """Put an event of an AWS service (`aws.sagemaker` …) on the default event bus."""
    entry = {
        "Source": source,
        "DetailType": detail_type,
        "Detail": json.dumps(detail),
        "Resources": list(resources),
    }
    with _home_scope():
        _events._put_events({"Entries": [entry]}, allow_aws_source=True)


# ---- identity, functions, APIs -----------------------------------------------------------------------------


def role_credentials(role_arn: str, session_name: str, *, service: str | None = None) -> Credentials:
    """Credentials of a role, as the service principal (`lambda.amazonaws.com`) would obtain them.

    Raises PermissionError when the role is unknown or its trust policy does not name `service`.
    """
    with _home_scope():
        role_name = role_arn.rpartition("/")[2]
        role = _iam_service._roles.get(role_name)
        if role is None or role["Arn"] != role_arn:
            raise PermissionError(f"the role {role_arn} does not exist")
        if service and not _trusts(role, role_arn, service):
            raise PermissionError(f"the role {role_arn} cannot be assumed by {service}")
        key = _iam_service._gen_session_access_key()
        secret, token = _iam_service._gen_secret(), _iam_service._gen_session_token()
        session = {
            "Arn": f"arn:aws:sts::{_home['account']}:assumed-role/{role_name}/{session_name}",
            "UserId": f"{role['RoleId']}:{session_name}",
            "SecretAccessKey": secret,
            "SessionToken": token,
            "Expiration": time.time() + _SESSION_SECONDS,
            "AccountId": _home["account"],
            "PrincipalType": "AssumedRole",
            "SourceAccessKeyId": "",
            "SourcePrincipalArn": service or f"arn:aws:iam::{_home['account']}:root",
            "SessionTags": [],
            "SessionPolicies": None,
        }
        _sts.register_session(key, session)
        _service_keys.add(key)
        return Credentials(key, secret, token)


def _trusts(role: Mapping[str, Any], role_arn: str, service: str) -> bool:
    document = role.get("AssumeRolePolicyDocument", "{}")
    document = json.loads(document) if isinstance(document, str) else document
    # A trust policy is about this very role, so its statements name no resource; the evaluator wants one.
    statements = document.get("Statement", [])
    statements = [statements] if isinstance(statements, dict) else statements
    on_role = {"Statement": [{**statement, "Resource": "*"} for statement in statements]}
    return _service_allowed(on_role, service, "sts:AssumeRole", role_arn, {})


def _service_allowed(
    policy: Mapping[str, Any], service: str, action: str, resource: str, context: dict[str, Any]
) -> bool:
    facts = _iam.EvalContext(
        principal_arn="",
        principal_type="AWSService",
        principal_account=_home["account"],
        action=action,
        resource_arn=resource,
        region=_home["region"],
        secure_transport=True,
        service_context={"aws:sourceaccount": _home["account"], **context},
    )
    return _iam.evaluate_resource_policy(dict(policy), facts, service=service).decision == "Allow"


def function(name_or_arn: str) -> Function | None:
    """The function behind a name, ARN, version or alias; None when there is none."""
    with _home_scope():
        record, config, _name = _lambda._get_func_record_for_ref(name_or_arn)
        return _function_of(record, config) if record and config else None


def _function_of(record: Mapping[str, Any], config: Mapping[str, Any]) -> Function:
    name = config["FunctionName"]
    base = _lambda._functions.get(name) or record
    layers = [_lambda._resolve_layer_zip(layer) for layer in config.get("Layers") or []]
    return Function(
        name=name,
        arn=config["FunctionArn"],
        version=config.get("Version", "$LATEST"),
        configuration=config,
        code_zip=record.get("code_zip") or b"",
        layer_zips=[layer for layer in layers if layer],
        reserved_concurrency=_lambda._reserved_concurrency(base, config),
    )


def function_permits(function_arn: str, principal: str, source_arn: str) -> bool:
    """Whether the function's resource policy lets a service principal (`apigateway.amazonaws.com`) invoke it
    on behalf of `source_arn`."""
    with _home_scope():
        found = _lambda.function_policy_for_arn(function_arn)
        if found is None:
            return False
        context = {"aws:sourcearn": source_arn}
        return _service_allowed(found[0], principal, "lambda:InvokeFunction", function_arn, context)


def set_function_executor(execute: Callable[[Function, Any, bool], dict[str, Any]]) -> None:
    """Run every invocation that the emulator makes (Invoke, Step Functions, EventBridge, SNS, alarms …)
    through `execute(function, event, wait)`, which answers
    `{"body": bytes, "error": bool, "function_error": str | None, "log": str, "throttle": bool}`.

    `wait` is false when the caller sits on the event loop itself: waiting there would block the very server
    that the function calls. Only asynchronous deliveries (SNS) do that, so their result is not needed.
    """

    def run(record: dict[str, Any], event: Any) -> dict[str, Any]:
        config = record.get("config") or record
        with _home_scope():
            deployed = _function_of(record, config)
        return execute(deployed, event, not _on_event_loop())

    _lambda._execute_function = run
    # The pool counts every invocation itself, whoever asked for it.
    _lambda._emit_lambda_metrics = lambda *_args, **_kwargs: None


def set_stream_invoker(
    invoke: Callable[[Function, bytes], Awaitable[AsyncIterator[bytes]]],
) -> None:
    """Answer `InvokeWithResponseStream` through `invoke(function, event)`, whose iterator raises when the
    function fails midway. Exceptions of `invoke` itself must be turned into its first piece."""

    async def run(name: str, event: Any, headers: dict, qualifier: str | None, query: dict) -> tuple:
        reference = f"{name}:{qualifier}" if qualifier else name
        deployed = function(reference)
        if deployed is None:
            return await original(name, event, headers, qualifier, query)
        pieces = await invoke(deployed, json.dumps(event).encode())
        reply_headers: dict[str, Any] = {"Content-Type": "application/vnd.amazon.eventstream"}
        return 200, reply_headers, _responses.StreamingResponse(_runner(_as_events(pieces)))

    original = _lambda._invoke_with_response_stream
    _lambda._invoke_with_response_stream = run


async def _as_events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lambda's event stream: a `PayloadChunk` per piece, then `InvokeComplete` with the error, if any."""
    outcome: dict[str, str] = {}
    try:
        async for piece in pieces:
            yield _event_frame("PayloadChunk", "application/octet-stream", piece)
    except Exception as error:
        outcome = {
            "ErrorCode": getattr(error, "error_type", type(error).__name__),
            "ErrorDetails": str(error),
        }
    yield _event_frame("InvokeComplete", "application/json", json.dumps(outcome).encode())


def _event_frame(kind: str, content_type: str, payload: bytes) -> bytes:
    headers = {":message-type": "event", ":event-type": kind, ":content-type": content_type}
    return _lambda._es_encode_message(headers, payload)


def _on_event_loop() -> bool:
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop() is not None
    return False


def rest_api(api_id: str) -> RestApi | None:
    """A REST API as deployed; None when there is none."""
    scope = _apigw.find_api_scope(api_id)
    if scope is None:
        return None
    with _responses.request_scope(*scope):
        return RestApi(
            api=_apigw._rest_apis.get(api_id),
            resources=_apigw._resources.get(api_id) or {},
            stages=_apigw._stages_v1.get(api_id) or {},
            authorizers=_apigw._authorizers_v1.get(api_id) or {},
            validators=_apigw._request_validators.setdefault(api_id, {}),
            models=_apigw._models.get(api_id) or {},
            gateway_responses=_apigw._gateway_responses.get(api_id) or {},
        )


def usage_plans(api_id: str, stage: str) -> Sequence[UsagePlan]:
    """The usage plans that cover a stage."""
    scope = _apigw.find_api_scope(api_id)
    if scope is None:
        return []
    with _responses.request_scope(*scope):
        found = []
        for plan_id, plan in list(_apigw._usage_plans.items()):
            covered = plan.get("apiStages") or []
            if any(entry.get("apiId") == api_id and entry.get("stage") == stage for entry in covered):
                key_ids = _apigw._usage_plan_keys.get(plan_id) or {}
                keys = [_apigw._api_keys.get(key_id) for key_id in key_ids]
                found.append(UsagePlan(plan, [key for key in keys if key]))
        return found


# ---- life cycle --------------------------------------------------------------------------------------------


def on_startup(callback: Callable[[], Awaitable[None]]) -> None:
    """Run on the event loop after saved state is restored and before the first request is served."""
    _startup.append(callback)


def on_shutdown(callback: Callable[[], Awaitable[None]]) -> None:
    """Run on the event loop at a clean stop, in reverse order of registration, each within 20 s."""
    _shutdown.append(callback)


def add_state(name: str, save: Callable[[], dict[str, Any]], load: Callable[[dict[str, Any]], None]) -> None:
    """Keep a plug-in's state across restarts together with the emulator's: `save` answers JSON data."""
    _states[name] = (save, load)


def export_state() -> dict[str, str]:
    """The state of the emulator's services and of the plug-ins, as JSON texts by part. Raises RuntimeError
    when another thread changes a table meanwhile; then try again."""
    # The emulator would delete code files that only the former snapshot names; that one is still in force.
    prune, _lambda._prune_orphan_code_blobs = _lambda._prune_orphan_code_blobs, lambda _referenced: None
    try:
        found = {name: get_state() for name, get_state in _app._build_persistence_save_dict().items()}
    finally:
        _lambda._prune_orphan_code_blobs = prune
    found = {name: state for name, state in found.items() if state is not None}
    found |= {_OWN_STATE + name: save() for name, (save, _load) in _states.items()}
    return {name: json.dumps(state, default=_persistence._json_default) for name, state in found.items()}


def import_state(parts: Mapping[str, str]) -> None:
    """Take back what `export_state` gave; raises whatever a part raises."""
    for name, text in parts.items():
        state = json.loads(text, object_hook=_persistence._json_object_hook)
        if name.startswith(_OWN_STATE):
            _states[name.removeprefix(_OWN_STATE)][1](state)
        else:
            if name == "s3":
                _drop_later_buckets(state)
            _app._get_module(_app._state_map[name]).load_persisted_state(state)


def _drop_later_buckets(state: Mapping[str, Any]) -> None:
    """Objects are written through to disk; buckets that were made after the snapshot are not part of it."""
    known = set(state["buckets_meta"]._data)
    for scoped in [scoped for scoped in _s3._buckets._data if scoped not in known]:
        del _s3._buckets._data[scoped]


def stacks_in_motion() -> bool:
    """Whether a CloudFormation operation is under way (a change set under review is not)."""
    with _home_scope():
        statuses = [str(stack.get("StackStatus")) for stack in _cloudformation._stacks.values()]
    return any(status.endswith("_IN_PROGRESS") and not status.startswith("REVIEW") for status in statuses)


def on_operator_change(callback: Callable[[], None]) -> None:
    """Call back after each request that may have changed something, but for those of running functions."""
    _change_listeners.append(callback)


def _is_change(scope: Mapping[str, Any]) -> bool:
    if scope["method"] not in ("POST", "PUT", "PATCH", "DELETE"):
        return False
    headers = _joined_headers(scope["headers"])
    operation = headers.get("x-amz-target", "").rpartition(".")[2]
    if operation.startswith(_READING):
        return False
    return _router.extract_access_key_id(headers, {}) not in _service_keys


def call(coroutine: Coroutine[Any, Any, Any], timeout: float) -> Any:
    """From a worker thread: run a coroutine on the event loop and wait for its result (seconds)."""
    return asyncio.run_coroutine_threadsafe(coroutine, _app._MAIN_LOOP).result(timeout)


@contextlib.contextmanager
def _home_scope() -> Any:
    """Act for the one account and region of this cloud, whatever thread we are on."""
    with _responses.request_scope(_home["account"], _home["region"]):
        yield


# ---- installation ------------------------------------------------------------------------------------------

REQUIRED: dict[str, tuple[Any, tuple[str, ...]]] = {
    "ministack.app": (
        _app,
        (
            "app",
            "detect_service",
            "pin_request_origin",
            "AUTH",
            "SERVICE_HANDLERS",
            "_MAIN_LOOP",
            "_request_account_scope",
            "_send_if_handled",
            "_build_persistence_save_dict",
            "_get_module",
            "_state_map",
        ),
    ),
    "ministack.core.iam_evaluator": (
        _iam,
        (
            "AuthError",
            "EvalContext",
            "enforce",
            "evaluate_resource_policy",
            "pin_signed_body",
            "pin_signed_request",
            "request_caller_arn",
        ),
    ),
    "ministack.core.responses": (
        _responses,
        (
            "StreamingResponse",
            "get_account_id",
            "get_region",
            "request_scope",
            "set_request_account_id",
            "set_request_client_ip",
            "set_request_region",
        ),
    ),
    "ministack.core.router": (_router, ("SERVICE_PATTERNS", "extract_access_key_id", "extract_region")),
    "ministack.services.apigateway_v1": (
        _apigw,
        (
            "find_api_scope",
            "_api_keys",
            "_authorizers_v1",
            "_create_deployment",
            "_gateway_responses",
            "_models",
            "_put_integration",
            "_request_validators",
            "_resources",
            "_rest_apis",
            "_stages_v1",
            "_usage_plan_keys",
            "_usage_plans",
        ),
    ),
    "ministack.services.cloudwatch": (_cloudwatch, ("_evaluate_all_alarms", "_parse_ts", "_store_datum")),
    "ministack.services.cloudwatch_logs": (
        _logs,
        ("_create_log_group", "_create_log_stream", "_log_groups", "_put_log_events"),
    ),
    "ministack.services.eventbridge": (_events, ("_put_events",)),
    "ministack.services.iam": (
        _iam_service,
        ("_gen_secret", "_gen_session_access_key", "_gen_session_token", "_roles"),
    ),
    "ministack.services.lambda_svc": (
        _lambda,
        (
            "_emit_lambda_metrics",
            "_es_encode_message",
            "_execute_function",
            "_functions",
            "_get_func_record_for_ref",
            "_invoke_with_response_stream",
            "_prune_orphan_code_blobs",
            "_reserved_concurrency",
            "_resolve_layer_zip",
            "function_policy_for_arn",
        ),
    ),
    "ministack.core.persistence": (_persistence, ("_json_default", "_json_object_hook")),
    "ministack.services.cloudformation": (_cloudformation, ("_stacks",)),
    "ministack.services.s3": (_s3, ("_buckets",)),
    "ministack.services.sns": (_sns, ("_deliver_to_lambda",)),
    "ministack.services.sts": (_sts, ("register_session",)),
    "ministack.services.cloudformation.provisioners": (
        _provisioners,
        ("_RESOURCE_HANDLERS", "_STACK_TAG_PROPERTY"),
    ),
    "ministack.services.cloudformation.stacks": (_stacks, ("_runs_on_worker_thread",)),
}


def missing_names() -> list[str]:
    """What of `REQUIRED` this version of ministack no longer has, one sentence each."""
    return [
        f"{module_name} no longer has `{name}`: see its use in local/cloud/seams.py"
        for module_name, (module, names) in REQUIRED.items()
        for name in names
        if not hasattr(module, name)
    ]


def install(account: str, region: str) -> None:
    """Put our hooks into the emulator. Call once, before the server starts.

    Raises RuntimeError naming every private name that this version of the emulator lacks.
    """
    missing = missing_names()
    if missing:
        raise RuntimeError("; ".join(missing))
    _home.update(account=account, region=region)
    _recognise_our_services()
    _treat_loopback_as_secure()
    _provision_on_worker_threads()
    _keep_transfer_mode()
    _ask_functions_before_notifying()


def _ask_functions_before_notifying() -> None:
    """SNS may invoke a function only if the function's policy lets it; the emulator does not ask."""
    deliver = _sns._deliver_to_lambda

    def deliver_if_permitted(endpoint: str, envelope: str, topic_arn: str, *rest: Any) -> None:
        if function_permits(endpoint, "sns.amazonaws.com", topic_arn):
            deliver(endpoint, envelope, topic_arn, *rest)
        else:
            _log.warning("%s may not invoke %s: its policy does not allow it", topic_arn, endpoint)

    _sns._deliver_to_lambda = deliver_if_permitted


def _recognise_our_services() -> None:
    original = _app.detect_service

    def detect(method: str, path: str, headers: dict, query: dict) -> str:
        for name, matches in _service_matchers:
            if matches(method, path, headers):
                return name
        return original(method, path, headers, query)

    _app.detect_service = detect


def _treat_loopback_as_secure() -> None:
    """Our buckets, like CDK's own, refuse plain HTTP (`aws:SecureTransport`). Clients reach this server on
    the loopback interface only, which no other machine can listen to: it stands in for TLS."""
    original = _app.pin_request_origin
    _app.pin_request_origin = lambda address, _secure: original(address, True)


def _provision_on_worker_threads() -> None:
    original = _stacks._runs_on_worker_thread
    _stacks._runs_on_worker_thread = lambda type_name: type_name in _worker_types or original(type_name)


def _keep_transfer_mode() -> None:
    """The emulator drops `ResponseTransferMode`, without which no REST route would stream."""
    put = _apigw._put_integration

    def put_integration(api_id: str, resource_id: str, http_method: str, data: dict) -> tuple:
        reply = put(api_id, resource_id, http_method, data)
        if reply[0] == 201:
            method = _apigw._resources[api_id][resource_id]["resourceMethods"][http_method]
            mode = data.get("responseTransferMode") or "BUFFERED"
            method["methodIntegration"]["responseTransferMode"] = mode
        return reply

    _apigw._put_integration = put_integration
