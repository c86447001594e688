"""Lambda: what is deployed, who may invoke it, and our own way of running it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from ministack.core import responses as _responses
from ministack.services import eventbridge as _events
from ministack.services import lambda_svc as _lambda
from ministack.services import sns as _sns

from local.cloud.adapter_types import LambdaFunction
from local.cloud.ministack_adapter.iam import role_allows, service_allowed, trusts
from local.cloud.ministack_adapter.scope import account_scope, log
from local.cloud.ministack_adapter.streaming import asgi_sender


def deployed_function(name_or_arn: str) -> LambdaFunction | None:
    """The function behind a name, ARN, version or alias; None when there is none."""
    with account_scope():
        record, config, _name = _lambda._get_func_record_for_ref(name_or_arn)
        return _function_of(record, config) if record and config else None


def _function_of(record: Mapping[str, Any], config: Mapping[str, Any]) -> LambdaFunction:
    name = config["FunctionName"]
    base = _lambda._functions.get(name) or record
    layers = [_lambda._resolve_layer_zip(layer) for layer in config.get("Layers") or []]
    return LambdaFunction(
        name=name,
        arn=config["FunctionArn"],
        version=config.get("Version", "$LATEST"),
        configuration=config,
        code_zip=record.get("code_zip") or b"",
        layer_zips=[layer for layer in layers if layer],
        reserved_concurrency=_lambda._reserved_concurrency(base, config),
    )


def function_policy_allows(function_arn: str, principal: str, source_arn: str) -> bool:
    """Whether the function's resource policy lets a service principal (`apigateway.amazonaws.com`) invoke it
    on behalf of `source_arn`."""
    with account_scope():
        found = _lambda.function_policy_for_arn(function_arn)
        if found is None:
            return False
        context = {"aws:sourcearn": source_arn}
        return service_allowed(found[0], principal, "lambda:InvokeFunction", function_arn, context)


def set_function_executor(execute: Callable[[LambdaFunction, Any], dict[str, Any]]) -> None:
    """Run every invocation that the emulator makes (Invoke, Step Functions, EventBridge, SNS, alarms …)
    through `execute(function, event)`, which answers
    `{"body": bytes, "error": bool, "function_error": str | None, "log": str, "throttle": bool}`.

    It blocks until the function ended. On the event loop that would block the very server which the function
    calls, so there it is refused.
    """

    def run(record: dict[str, Any], event: Any) -> dict[str, Any]:
        config = record.get("config") or record
        if _on_event_loop():
            raise RuntimeError(f"{config.get('FunctionName')} was to be run on the server's event loop")
        with account_scope():
            deployed = _function_of(record, config)
        return execute(deployed, event)

    _lambda._execute_function = run
    # The pool counts every invocation itself, whoever asked for it.
    _lambda._emit_lambda_metrics = lambda *_args, **_kwargs: None


def set_stream_invoker(
    invoke: Callable[[LambdaFunction, bytes], Awaitable[AsyncIterator[bytes]]],
) -> None:
    """Answer `InvokeWithResponseStream` through `invoke(function, event)`, whose iterator raises when the
    function fails midway. Exceptions of `invoke` itself must be turned into its first piece."""

    async def run(
        name: str, event: Any, headers: dict[str, Any], qualifier: str | None, query: dict[str, Any]
    ) -> tuple[Any, ...]:
        reference = f"{name}:{qualifier}" if qualifier else name
        deployed = deployed_function(reference)
        if deployed is None:
            return tuple(await original(name, event, headers, qualifier, query))
        pieces = await invoke(deployed, json.dumps(event).encode())
        reply_headers: dict[str, Any] = {"Content-Type": "application/vnd.amazon.eventstream"}
        return 200, reply_headers, _responses.StreamingResponse(asgi_sender(_as_events(pieces)))

    original = _lambda._invoke_with_response_stream
    _lambda._invoke_with_response_stream = run


async def _as_events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lambda's event stream: a `PayloadChunk` per piece, then `InvokeComplete` with the error, if any."""
    outcome: dict[str, str] = {}
    try:
        async for piece in pieces:
            yield _event_frame("PayloadChunk", "application/octet-stream", piece)
    except Exception as error:  # noqa: BLE001 - whatever ends the stream is told to its reader
        outcome = {
            "ErrorCode": getattr(error, "error_type", type(error).__name__),
            "ErrorDetails": str(error),
        }
    yield _event_frame("InvokeComplete", "application/json", json.dumps(outcome).encode())


def _event_frame(kind: str, content_type: str, payload: bytes) -> bytes:
    headers = {":message-type": "event", ":event-type": kind, ":content-type": content_type}
    return bytes(_lambda._es_encode_message(headers, payload))


def _on_event_loop() -> bool:
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop() is not None
    return False


def enforce_target_permissions() -> None:
    """SNS and EventBridge may invoke a function only if the function's policy lets them, and a rule starts a
    state machine under the target's role; the emulator asks neither. Schedules are not asked for:
    EventBridge Scheduler invokes under a role of its own."""
    deliver, invoke_target = _sns._deliver_to_lambda, _events._invoke_target

    def deliver_if_permitted(endpoint: str, envelope: str, topic_arn: str, *rest: Any) -> None:
        if _permitted(endpoint, "sns.amazonaws.com", topic_arn):
            deliver(endpoint, envelope, topic_arn, *rest)

    def invoke_if_permitted(target: dict[str, Any], event: Any, rule: dict[str, Any], *rest: Any) -> None:
        arn, rule_arn = target.get("Arn", ""), rule.get("Arn", "")
        if ":rule/" not in rule_arn or _rule_may(target, arn, rule_arn):
            invoke_target(target, event, rule, *rest)

    _sns._deliver_to_lambda = deliver_if_permitted
    _events._invoke_target = invoke_if_permitted


def _rule_may(target: Mapping[str, Any], arn: str, rule_arn: str) -> bool:
    if ":lambda:" in arn:
        return _permitted(arn, "events.amazonaws.com", rule_arn)
    if ":stateMachine:" not in arn:
        return True
    role = str(target.get("RoleArn", ""))
    allowed = trusts(role, "events.amazonaws.com") and role_allows(role, "states:StartExecution", arn)
    if not allowed:
        log.warning("%s may not start %s: its role %s does not allow it", rule_arn, arn, role or "(none)")
    return allowed


def _permitted(function_arn: str, principal: str, source_arn: str) -> bool:
    permitted = function_policy_allows(function_arn, principal, source_arn)
    if not permitted:
        log.warning("%s may not invoke %s: its policy does not allow it", source_arn, function_arn)
    return permitted
