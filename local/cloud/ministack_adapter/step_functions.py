"""Step Functions: our own way of running tasks, and the corners of the emulator's engine that we mend.

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

from local.cloud.adapter_types import Task, TaskError
from local.cloud.ministack_adapter.cloudformation import after_provisioning
from local.cloud.ministack_adapter.scope import home_scope

RunTask = Callable[[Task, Callable[[], Any]], Any]

_LOOK_SECONDS = 0.25
_FOREVER_SECONDS = 365 * 86_400.0  # the longest that a standard execution may take
_CALLBACK = ".waitForTaskToken"

_execution: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("execution", default=None)
_given_up: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("given_up", default=None)


class _ExecutionOver(SystemExit):
    """Leaves an execution's thread: somebody stopped it, or its time is up. No Catch may see it."""


def set_task_runner(run: RunTask) -> None:
    """Run every task through `run(task, emulators_way)`; it raises TaskError for what Retry and Catch see."""
    emulators_way = _states._invoke_resource

    def invoke(resource: str, data: Any) -> Any:
        execution = _execution.get()
        if execution is None:  # the TestState operation
            return emulators_way(resource, data)
        _leave_if_over()
        machine = _states._state_machines[execution["stateMachineArn"]]
        given_up = _given_up.get()
        task = Task(
            resource=resource,
            input=data,
            role_arn=machine["roleArn"],
            execution_arn=execution["executionArn"],
            is_over=lambda: not _runs(execution) or bool(given_up and given_up.is_set()),
        )
        try:
            return run(task, lambda: emulators_way(resource, data))
        except TaskError as error:
            raise _states._ExecutionError(error.error, error.cause) from error

    _states._invoke_resource = invoke


def on_execution_change(callback: Callable[[Mapping[str, Any]], None]) -> None:
    """Call back with an execution's record at its start and at its end, whatever the end."""
    emit = _states._emit_execution_status_event

    def emit_and_call(execution: dict[str, Any]) -> None:
        emit(execution)
        callback(execution)

    _states._emit_execution_status_event = emit_and_call


def on_execution_event(
    callback: Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], None],
) -> None:
    """Call `callback(execution, state machine, event)` for every event of an execution's history."""
    add, emit = _states._add_event, _states._emit_execution_status_event

    def tell(execution: Mapping[str, Any]) -> None:
        machine = _states._state_machines.get(execution["stateMachineArn"])
        if machine is not None:
            callback(execution, machine, execution["events"][-1])

    def add_and_tell(execution: dict[str, Any], *event: Any) -> None:
        add(execution, *event)
        tell(execution)

    def emit_and_tell(execution: dict[str, Any]) -> None:
        if execution["status"] == "RUNNING":
            tell(execution)  # the first event is not added like the others
        emit(execution)

    _states._add_event = add_and_tell
    _states._emit_execution_status_event = emit_and_tell


def check_state_machines(check: Callable[[str, str], None]) -> None:
    """Call `check(role_arn, definition)` before a state machine is created or updated by the API, and after
    CloudFormation did; a PermissionError refuses it."""
    for name in ("_create_state_machine", "_update_state_machine"):
        setattr(_states, name, _checked(getattr(_states, name), check))
    after_provisioning(
        "AWS::StepFunctions::StateMachine",
        lambda arn, _properties: check(
            _states._state_machines[arn]["roleArn"], _states._state_machines[arn]["definition"]
        ),
    )


def _checked(change: Callable[[dict[str, Any]], tuple], check: Callable[[str, str], None]) -> Callable:
    def checked(data: dict[str, Any]) -> tuple:
        known = _states._state_machines.get(data.get("stateMachineArn")) or {}
        try:
            check(
                data.get("roleArn") or known.get("roleArn", ""),
                data.get("definition") or known.get("definition", "{}"),
            )
        except PermissionError as error:
            return _states.error_response_json("AccessDeniedException", str(error), 400)
        return change(data)

    return checked


def mend_the_engine() -> None:
    """Everything that needs no knowledge of ours."""
    _keep_empty_parameters()
    _end_for_good()
    _keep_time()
    after_provisioning("AWS::StepFunctions::StateMachine", _keep_logging_and_tracing)
    _leave_when_over()
    _states._invoke_with_callback = _with_callback
    _states._call_lambda = _named_throttling(_states._call_lambda)


def _keep_empty_parameters() -> None:
    """`"Parameters": {}` means an empty input; the emulator passes the whole input on instead."""
    apply = _states._apply_parameters

    def apply_parameters(state: dict[str, Any], data: Any, *context: Any) -> Any:
        return {} if state.get("Parameters") == {} else apply(state, data, *context)

    _states._apply_parameters = apply_parameters


def _keep_logging_and_tracing(arn: str, properties: Mapping[str, Any]) -> None:
    """CloudFormation's spelling becomes the API's; the emulator keeps it for logging and drops tracing."""
    for name in ("LoggingConfiguration", "TracingConfiguration"):
        if name in properties:
            _states._state_machines[arn][_small(name)] = _as_api(properties[name])


def _as_api(value: Any) -> Any:
    if isinstance(value, dict):
        return {_small(name): _as_api(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_api(item) for item in value]
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _small(name: str) -> str:
    return name[:1].lower() + name[1:]


def _end_for_good() -> None:
    """An execution that was stopped stays ABORTED; the emulator lets a later failure overwrite it."""
    fail = _states._fail_execution

    def fail_if_running(execution: dict[str, Any], error: str, cause: str) -> None:
        if _runs(execution):
            fail(execution, error, cause)

    _states._fail_execution = fail_if_running


def _keep_time() -> None:
    """`TimeoutSeconds` of a whole state machine, which the emulator ignores."""
    run = _states._run_execution

    def run_with_timer(arn: str) -> None:
        execution = _states._executions.get(arn)
        if execution is None:
            return
        outer = _execution.set(execution)
        seconds = _machine_timeout(execution)
        timer = threading.Timer(seconds or 0, _time_out, (execution, seconds))
        timer.daemon = True
        if seconds:
            timer.start()
        try:
            run(arn)
        except _ExecutionOver:
            return
        finally:
            timer.cancel()
            _execution.reset(outer)  # a nested execution runs on its parent's thread

    _states._run_execution = run_with_timer
    _states._invoke_resource_with_timeout = _within


def _machine_timeout(execution: Mapping[str, Any]) -> float | None:
    machine = _states._state_machines.get(execution["stateMachineArn"]) or {}
    try:
        return json.loads(machine.get("definition", "{}")).get("TimeoutSeconds")
    except ValueError:
        return None  # the engine itself fails the execution for it


def _time_out(execution: dict[str, Any], seconds: float) -> None:
    with home_scope():
        if not _runs(execution):
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


def _within(resource: str, data: Any, seconds: float) -> Any:
    """Run a task for at most so long. A task that is given up is told so: a job can be stopped then."""
    given_up = threading.Event()
    done: concurrent.futures.Future[Any] = concurrent.futures.Future()
    context = contextvars.copy_context()
    context.run(_given_up.set, given_up)

    def work() -> None:
        try:
            done.set_result(context.run(_states._invoke_resource, resource, data))
        except BaseException as error:
            done.set_exception(error)

    # A daemon, unlike an executor's threads: the server's end must not wait for it.
    threading.Thread(target=work, daemon=True, name="task").start()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        finished, _ = concurrent.futures.wait([done], timeout=min(_LOOK_SECONDS, seconds))
        if finished:
            return done.result()
        if not _runs(_execution.get()):
            given_up.set()
            raise _ExecutionOver
    given_up.set()
    raise _states._ExecutionError("States.Timeout", f"Task timed out after {seconds} seconds")


def _leave_when_over() -> None:
    """Waits, also those before a retry, end with their execution."""

    def sleep(seconds: float) -> None:
        deadline = time.monotonic() + seconds * _states._SFN_WAIT_SCALE
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))
            _leave_if_over()

    _states._scaled_sleep = sleep


def _with_callback(resource: str, data: Any, token: str, state: Mapping[str, Any]) -> Any:
    """A task that waits for SendTaskSuccess or SendTaskFailure. Unlike the emulator's, it fails at once when
    the call that should carry the token out fails, keeps `HeartbeatSeconds`, and forgets its token."""
    answered = threading.Event()
    info: dict[str, Any] = {"event": answered, "result": None, "error": None, "heartbeat": None}
    _states._task_tokens[token] = info
    started = beat = time.monotonic()
    seen = None
    try:
        _states._invoke_resource(resource.replace(_CALLBACK, ""), data)
        while not answered.wait(_LOOK_SECONDS):
            _leave_if_over()
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


def _named_throttling(call: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A throttled function is `Lambda.TooManyRequestsException`, which Retry names; here it had no name."""

    def call_function(reference: Any, event: Any) -> Any:
        try:
            return call(reference, event)
        except _states._ExecutionError as error:
            if error.error == "Lambda.Unknown" and "TooManyRequestsException" in str(error.cause):
                raise _states._ExecutionError("Lambda.TooManyRequestsException", error.cause) from error
            raise

    return call_function


def _runs(execution: Mapping[str, Any] | None) -> bool:
    return execution is None or execution["status"] == "RUNNING"


def _leave_if_over() -> None:
    given_up = _given_up.get()
    if not _runs(_execution.get()) or (given_up is not None and given_up.is_set()):
        raise _ExecutionOver
