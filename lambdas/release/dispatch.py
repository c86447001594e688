"""From an event to a task and back: input checked, answer as JSON, failures in the log and in the ledger.

The same for both functions; knows no task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from lambdas.release.errors import (
    BadInputError,
    CopyPendingError,
    EndpointBusyError,
    ReleaseError,
    StackBusyError,
)
from lambdas.release.store import ReleaseLedger
from lambdas.runtime.logs import Logger


class ReleaseTask(Protocol):
    """Any task's input."""

    @property
    def task(self) -> str:
        """Its name."""

    @property
    def release_id(self) -> str:
        """The release it belongs to."""


T = TypeVar("T", bound=ReleaseTask)


def run(
    event: Mapping[str, Any],
    tasks: TypeAdapter[T],
    answer: Callable[[T], BaseModel],
    ledger: ReleaseLedger,
    logger: Logger,
) -> dict[str, Any]:
    """The answer to an event. Raises BadInputError, or what ended the task, which the ledger then holds."""
    task = _parsed(event, tasks)
    try:
        reply = answer(task)
    except (
        StackBusyError,
        EndpointBusyError,
        CopyPendingError,
    ) as busy:  # asked again soon; a row per try would bury the story
        logger.info("busy", task=task.task, release_id=task.release_id, error=type(busy).__name__)
        raise
    except ReleaseError as error:
        logger.warning("failed", task=task.task, release_id=task.release_id, error=type(error).__name__)
        ledger.note(task.release_id, task.task, "failed", str(error), {"error": type(error).__name__})
        raise
    except Exception as error:
        logger.failure("failed", error, task=task.task, release_id=task.release_id)
        ledger.note(task.release_id, task.task, "failed", f"Unforeseen: {type(error).__name__}.")
        raise
    logger.info("done", task=task.task, release_id=task.release_id)
    return reply.model_dump(mode="json")


def _parsed(event: Mapping[str, Any], tasks: TypeAdapter[T]) -> T:
    try:
        return tasks.validate_python(event)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in one['loc']) or 'task'}: {one['msg']}" for one in error.errors()
        )
        raise BadInputError(f"This is no task with its input: {problems}") from None
