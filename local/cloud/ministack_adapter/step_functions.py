"""Step Functions: how tasks are run, and callbacks for what an execution does.

An execution runs on a thread of its own, so everything here may block; none of it runs on the event loop.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ministack.services import stepfunctions as _states

from local.cloud.adapter_types import StateMachineTask, TaskError
from local.cloud.ministack_adapter.cloudformation import after_provisioning

RunTask = Callable[[StateMachineTask, Callable[[], Any]], Any]


current_execution: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar(
    "execution", default=None
)
task_abandoned: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar(
    "task_abandoned", default=None
)


class ExecutionExit(SystemExit):
    """Leaves an execution's thread: somebody stopped it, or its time is up. No Catch may see it."""


def set_task_runner(run: RunTask) -> None:
    """Run every task through `run(task, original)`; it raises TaskError for what Retry and Catch see."""
    original = _states._invoke_resource

    def invoke(resource: str, data: Any) -> Any:
        execution = current_execution.get()
        if execution is None:  # the TestState operation
            return original(resource, data)
        exit_if_ended()
        machine = _states._state_machines[execution["stateMachineArn"]]
        abandoned = task_abandoned.get()
        task = StateMachineTask(
            resource=resource,
            input=data,
            role_arn=machine["roleArn"],
            execution_arn=execution["executionArn"],
            is_abandoned=lambda: not is_running(execution) or bool(abandoned and abandoned.is_set()),
        )
        try:
            return run(task, lambda: original(resource, data))
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


def _checked(
    change: Callable[[dict[str, Any]], tuple[Any, ...]], check: Callable[[str, str], None]
) -> Callable[..., Any]:
    def checked(data: dict[str, Any]) -> tuple[Any, ...]:
        known = _states._state_machines.get(data.get("stateMachineArn")) or {}
        try:
            check(
                data.get("roleArn") or known.get("roleArn", ""),
                data.get("definition") or known.get("definition", "{}"),
            )
        except PermissionError as error:
            return tuple(_states.error_response_json("AccessDeniedException", str(error), 400))
        return change(data)

    return checked


def is_running(execution: Mapping[str, Any] | None) -> bool:
    return execution is None or execution["status"] == "RUNNING"


def exit_if_ended() -> None:
    abandoned = task_abandoned.get()
    if not is_running(current_execution.get()) or (abandoned is not None and abandoned.is_set()):
        raise ExecutionExit
