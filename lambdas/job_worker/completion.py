"""The end of a task: results are put together, the last status is written. Knows neither SQS nor Lambda."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from contracts.errors import ErrorObject
from contracts.jobs import JobStatus
from contracts.tasks import StoredFile, Task, new_file
from lambdas.aws.work_table import LeaseLostError
from lambdas.pipeline import batch_lines as lines
from lambdas.runtime.logs import Logger


class Table(Protocol):
    """See `store.WorkTable`."""

    def end(
        self, task: Task, status: JobStatus, values: dict[str, Any], *, worker: str | None = None
    ) -> Task: ...

    def add(self, row: dict[str, Any]) -> bool: ...

    def remove(self, pk: str, id: str) -> None: ...


class Bucket(Protocol):
    """See `store.Bucket`."""

    def put(self, key: str, body: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def delete(self, key: str) -> None: ...


class Ending:
    """Ends tasks. `ended` is told of each."""

    def __init__(self, table: Table, bucket: Bucket, logger: Logger, ended: Callable[[Task], None]) -> None:
        self._table, self._bucket, self._logger, self._ended = table, bucket, logger, ended

    def end(self, task: Task, texts: list[bytes], status: JobStatus, error: ErrorObject | None) -> None:
        """Write what there is of results, then the last status; then the parts go. Raises LeaseLostError."""
        values: dict[str, Any] = {"error": error.model_dump(exclude_none=True)} if error else {}
        made: list[StoredFile] = []
        if task.kind == "batch":
            done = lines.outcomes(self._bucket.get(task.part_key(number)) for number in range(task.parts))
            answered, failed = lines.result_files(texts, done, task.id, status)
            for name, content in (("output", answered), ("error", failed)):
                if content:
                    made.append(self._file(task, name, content))
                    values[f"{name}_file_id"] = made[-1].id
        elif status == "completed" and task.failed:
            status = "failed"
            values["error"] = self._job_error(task)
        try:
            ended = self._table.end(task, status, values, worker=task.lease_by)
        except LeaseLostError:
            for file in made:  # nobody would ever learn of them
                self._bucket.delete(file.key)
                self._table.remove(file.pk, file.id)
            raise
        for number in range(task.parts) if task.kind == "batch" else ():
            self._bucket.delete(task.part_key(number))
        self._logger.info(
            "task_ended", task=task.id, status=status, answered=task.completed, refused=task.failed
        )
        self._ended(ended)

    def _file(self, task: Task, name: str, content: bytes) -> StoredFile:
        file = new_file(task.pk, task.tenant, "batch_output", f"{task.id}_{name}.jsonl", task.expires_at)
        file = file.model_copy(update={"bytes": len(content), "of_batch": task.id})
        self._bucket.put(file.key, content)
        self._table.add(file.row())
        return file

    def _job_error(self, task: Task) -> dict[str, Any]:
        """What refused a job, as its caller would have got it at once."""
        (outcome,) = lines.outcomes([self._bucket.get(task.result_key)]).values()
        found = outcome.body.get("error") if isinstance(outcome.body, dict) else None
        error = (
            found if isinstance(found, dict) else {"message": "The request failed.", "type": "server_error"}
        )
        return {name: value for name, value in error.items() if value is not None}
