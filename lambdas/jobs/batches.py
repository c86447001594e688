"""A batch as OpenAI's clients know it, from a task's row. Pure."""

from __future__ import annotations

from contracts.jobs import Batch, BatchErrors, BatchList, BatchStatus, JobStatus, RequestCounts
from contracts.tasks import Task

_STATUS: dict[JobStatus, BatchStatus] = {
    "queued": "validating",
    "in_progress": "in_progress",
    "cancelling": "cancelling",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
}


def batch_of(task: Task) -> Batch:
    """The batch; its dates are named by what happened."""
    errors = [error.model_dump() for error in task.errors or []]
    if task.error is not None:
        errors.append({"code": task.error.code or "batch_failed", "message": task.error.message})
    return Batch(
        id=task.id,
        endpoint=task.url,
        errors=BatchErrors.model_validate({"data": errors}) if errors else None,
        input_file_id=task.input_file_id or "",
        status=_STATUS[task.status],
        output_file_id=task.output_file_id,
        error_file_id=task.error_file_id,
        created_at=task.created_at,
        in_progress_at=task.started_at,
        expires_at=task.deadline,
        completed_at=_when(task, "completed"),
        failed_at=_when(task, "failed"),
        expired_at=_when(task, "expired"),
        cancelling_at=task.cancelling_at,
        cancelled_at=_when(task, "cancelled"),
        request_counts=RequestCounts(total=task.lines, completed=task.completed, failed=task.failed),
        metadata=task.metadata,
    )


def batch_list(tasks: list[Task], more: bool) -> BatchList:
    """A page of batches."""
    ids = [task.id for task in tasks]
    return BatchList(
        data=[batch_of(task) for task in tasks],
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
        has_more=more,
    )


def _when(task: Task, status: JobStatus) -> int | None:
    return task.finished_at if task.status == status else None
