"""Step Functions: where the emulator's engine differs from AWS's, put right.

An execution runs on a thread of its own, so everything here may block; none of it runs on the event loop.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ministack.services import stepfunctions as _states

from local.cloud.ministack_adapter.cloudformation import after_provisioning
from local.cloud.ministack_adapter.scope import account_scope
from local.cloud.ministack_adapter.step_functions import (
    ExecutionExit,
    current_execution,
    exit_if_ended,
    is_running,
    task_abandoned,
)

_POLL_SECONDS = 0.25
_FOREVER_SECONDS = 365 * 86_400.0  # the longest that a standard execution may take
_CALLBACK = ".waitForTaskToken"


def patch_engine() -> None:
    """Apply every patch of this module."""
    _patch_empty_parameters()
    _patch_final_status()
    _patch_timeouts()
    after_provisioning("AWS::StepFunctions::StateMachine", _restore_logging_and_tracing)
    _patch_waits()
    _states._invoke_with_callback = _run_with_callback
    _states._call_lambda = _name_throttling_error(_states._call_lambda)


def _patch_empty_parameters() -> None:
    """`"Parameters": {}` means an empty input; the emulator passes the whole input on instead."""
    apply = _states._apply_parameters

    def apply_parameters(state: dict[str, Any], data: Any, *context: Any) -> Any:
        return {} if state.get("Parameters") == {} else apply(state, data, *context)

    _states._apply_parameters = apply_parameters


def _restore_logging_and_tracing(arn: str, properties: Mapping[str, Any]) -> None:
    """CloudFormation's spelling becomes the API's; the emulator keeps it for logging and drops tracing."""
    for name in ("LoggingConfiguration", "TracingConfiguration"):
        if name in properties:
            _states._state_machines[arn][_lower_first(name)] = _as_api(properties[name])


def _as_api(value: Any) -> Any:
    if isinstance(value, dict):
        return {_lower_first(name): _as_api(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_api(item) for item in value]
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _lower_first(name: str) -> str:
    return name[:1].lower() + name[1:]


def _patch_final_status() -> None:
    """An execution that was stopped stays ABORTED; the emulator lets a later failure overwrite it."""
    fail = _states._fail_execution

    def fail_if_running(execution: dict[str, Any], error: str, cause: str) -> None:
        if is_running(execution):
            fail(execution, error, cause)

    _states._fail_execution = fail_if_running


def _patch_timeouts() -> None:
    """`TimeoutSeconds` of a whole state machine, which the emulator ignores."""
    run = _states._run_execution

    def run_with_timer(arn: str) -> None:
        execution = _states._executions.get(arn)
        if execution is None:
            return
        outer = current_execution.set(execution)
        seconds = _machine_timeout(execution)
        timer = threading.Timer(seconds or 0, _time_out, (execution, seconds))
        timer.daemon = True
        if seconds:
            timer.start()
        try:
            run(arn)
        except ExecutionExit:
            return
        finally:
            timer.cancel()
            current_execution.reset(outer)  # a nested execution runs on its parent's thread

    _states._run_execution = run_with_timer
    _states._invoke_resource_with_timeout = _run_with_timeout


def _machine_timeout(execution: Mapping[str, Any]) -> float | None:
    machine = _states._state_machines.get(execution["stateMachineArn"]) or {}
    try:
        seconds: float | None = json.loads(machine.get("definition", "{}")).get("TimeoutSeconds")
        return seconds
    except ValueError:
        return None  # the engine itself fails the execution for it


def _time_out(execution: dict[str, Any], seconds: float) -> None:
    with account_scope():
        if not is_running(execution):
            return
        error, cause = "States.Timeout", f"Execution timed out after {seconds} seconds"
        execution |= {
            "status": "TIMED_OUT",
            "stopDate": _states.now_iso(),
            "error": error,
            "cause": cause,
        }
        details = {"executionTimedOutEventDetails": {"error": error, "cause": cause}}
        _states._add_event(execution, "ExecutionTimedOut", details)
        _states._emit_execution_status_event(execution)


def _run_with_timeout(resource: str, data: Any, seconds: float) -> Any:
    """Run a task for at most so long. A task that is given up is told so: a job can be stopped then."""
    abandoned = threading.Event()
    done: concurrent.futures.Future[Any] = concurrent.futures.Future()
    context = contextvars.copy_context()
    context.run(task_abandoned.set, abandoned)

    def work() -> None:
        try:
            done.set_result(context.run(_states._invoke_resource, resource, data))
        except BaseException as error:  # noqa: BLE001 - raised again on the thread that waits
            done.set_exception(error)

    # A daemon, unlike an executor's threads: the server's end must not wait for it.
    threading.Thread(target=work, daemon=True, name="task").start()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        finished, _ = concurrent.futures.wait([done], timeout=min(_POLL_SECONDS, seconds))
        if finished:
            return done.result()
        if not is_running(current_execution.get()):
            abandoned.set()
            raise ExecutionExit
    abandoned.set()
    raise _states._ExecutionError("States.Timeout", f"Task timed out after {seconds} seconds")


def _patch_waits() -> None:
    """Waits, also those before a retry, end with their execution."""

    def sleep(seconds: float) -> None:
        deadline = time.monotonic() + seconds * _states._SFN_WAIT_SCALE
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_SECONDS))
            exit_if_ended()

    _states._scaled_sleep = sleep


def _run_with_callback(resource: str, data: Any, token: str, state: Mapping[str, Any]) -> Any:
    """A task that waits for SendTaskSuccess or SendTaskFailure. Unlike the emulator's, it fails at once when
    the call that should carry the token out fails, keeps `HeartbeatSeconds`, and forgets its token."""
    answered = threading.Event()
    info: dict[str, Any] = {"event": answered, "result": None, "error": None, "heartbeat": None}
    _states._task_tokens[token] = info
    started = beat = time.monotonic()
    seen = None
    try:
        _states._invoke_resource(resource.replace(_CALLBACK, ""), data)
        while not answered.wait(_POLL_SECONDS):
            exit_if_ended()
            if info["heartbeat"] != seen:
                seen, beat = info["heartbeat"], time.monotonic()
            moment = time.monotonic()
            if moment - started > state.get("TimeoutSeconds", _FOREVER_SECONDS):
                raise _states._ExecutionError("States.Timeout", "Task timed out waiting for callback")
            if moment - beat > state.get("HeartbeatSeconds", _FOREVER_SECONDS):
                raise _states._ExecutionError("States.HeartbeatTimeout", "No heartbeat came in time")
    finally:
        _states._task_tokens.pop(token, None)
    if info["error"]:
        raise _states._ExecutionError(info["error"]["Error"], info["error"]["Cause"])
    try:
        return json.loads(info["result"])
    except ValueError:
        return info["result"]


def _name_throttling_error(call: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A throttled function is `Lambda.TooManyRequestsException`, which Retry names; here it had no name."""

    def call_function(reference: Any, event: Any) -> Any:
        try:
            return call(reference, event)
        except _states._ExecutionError as error:
            if error.error == "Lambda.Unknown" and "TooManyRequestsException" in str(error.cause):
                raise _states._ExecutionError("Lambda.TooManyRequestsException", error.cause) from error
            raise

    return call_function
