"""What the routes of jobs, files and batches do, each for the caller's own work only.

Another key's job looks like one that never was: its row lies under another owner, where nobody looks. Knows
neither HTTP nor AWS.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from contracts.access import SCOPE_INFERENCE
from contracts.jobs import (
    BatchRequest,
    File,
    FileDeleted,
    FileList,
    Job,
    JobDeleted,
    JobRequest,
    JobStatus,
    Ticket,
)
from contracts.tasks import StoredFile, Task, new_file
from lambdas.aws.s3 import ObjectNotFoundError
from lambdas.aws.work_table import LeaseLostError
from lambdas.jobs.multipart import InvalidFormError, fields
from lambdas.pipeline import batch_lines as lines
from lambdas.pipeline.job_submission import SLOT_GRACE_SECONDS, Queue, Submissions, job_of, owner
from lambdas.runtime.errors import ApiError

MOST_LISTED = 100
_MOST_FILENAME = 256
_NUMBER = re.compile(r"[0-9]{1,9}")
_ID = re.compile(r"(?:job_|batch_|file-)[0-9a-f]{20,40}")

Authorizer = Mapping[str, Any]


class Table(Protocol):
    """See `store.WorkTable`."""

    def task(self, pk: str, id: str) -> Task | None: ...

    def file(self, pk: str, id: str) -> StoredFile | None: ...

    def newest(
        self, pk: str, prefix: str, limit: int, after: str | None
    ) -> tuple[list[dict[str, Any]], bool]: ...

    def add(self, row: dict[str, Any]) -> bool: ...

    def remove(self, pk: str, id: str) -> None: ...

    def cancel(self, task: Task) -> Task: ...

    def end(
        self, task: Task, status: JobStatus, values: dict[str, Any], *, still: tuple[JobStatus, ...] = ...
    ) -> Task: ...


class Bucket(Protocol):
    """See `store.Bucket`."""

    def put(self, key: str, body: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def stream(self, key: str) -> Iterator[bytes]: ...

    def delete(self, key: str) -> None: ...


@dataclass(frozen=True)
class JobLimits:
    """What settings allow; `retention` in seconds."""

    max_body_bytes: int
    max_file_bytes: int
    max_lines: int
    retention: int


class Work:
    """The caller's jobs, files and batches."""

    def __init__(
        self,
        table: Table,
        bucket: Bucket,
        queue: Queue,
        submissions: Submissions,
        limits: JobLimits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table, self._bucket, self._queue = table, bucket, queue
        self._submissions, self._limits, self._clock = submissions, limits, clock

    # ---- jobs ----

    def submit(self, caller: Authorizer, body: bytes, idempotency_key: str | None) -> Job:
        """A new job, or the one that the idempotency key stands for. Raises ApiError."""
        _may_ask(caller)
        request = JobRequest.model_validate_json(self._checked(body))
        return job_of(self._submissions.job(caller, request.route, request.body, idempotency_key))

    def job(self, caller: Authorizer, id: str) -> Job:
        """How a job stands. Raises ApiError 404."""
        return job_of(self._task(caller, id, "job"))

    def result(self, caller: Authorizer, id: str) -> tuple[int, Any]:
        """Status and body that the request itself would have got. Raises ApiError 404, 409 before the end."""
        task = self._task(caller, id, "job")
        if not task.is_over:
            raise ApiError(
                "invalid_request_error",
                f"The job is {task.status}: its result comes later.",
                code="job_not_finished",
                status=409,
                retry_after=2,
            )
        if task.completed + task.failed == 0 or task.status in ("cancelled", "expired"):
            raise ApiError(
                "not_found_error", f"The job is {task.status} and has no result.", code="no_result"
            )
        try:
            (outcome,) = lines.outcomes([self._bucket.get(task.result_key)]).values()
        except ObjectNotFoundError:
            raise _gone("result") from None
        return outcome.status, outcome.body

    def cancel_job(self, caller: Authorizer, id: str) -> Job:
        """Stop a job that is not over; one that is stays as it is. Raises ApiError 404."""
        return job_of(self._cancelled(self._task(caller, id, "job")))

    def delete_job(self, caller: Authorizer, id: str) -> Job | JobDeleted:
        """Forget a job that is over; stop one that is not. Raises ApiError 404."""
        task = self._task(caller, id, "job")
        if not task.is_over:
            return job_of(self._cancelled(task))
        self._bucket.delete(task.input_key)
        self._bucket.delete(task.result_key)
        self._table.remove(task.pk, task.id)
        return JobDeleted(id=id)

    # ---- files ----

    def upload(self, caller: Authorizer, content_type: str, body: bytes) -> File:
        """Keep a file of requests. Raises ApiError 400 or 413."""
        _may_ask(caller)
        try:
            form = fields(content_type, body)
        except InvalidFormError as error:
            raise ApiError(
                "invalid_request_error", f"This is no upload: {error}.", code="invalid_form"
            ) from None
        purpose = form["purpose"].content if "purpose" in form else b""
        if purpose != b"batch":
            raise _invalid("purpose", "'purpose' must be 'batch'.")
        if "file" not in form:
            raise ApiError(
                "invalid_request_error",
                "ObjectNotFoundError field: file.",
                param="file",
                code="missing_parameter",
            )
        content = form["file"].content
        if len(content) > self._limits.max_file_bytes:
            raise _too_large(len(content), self._limits.max_file_bytes)
        name = (form["file"].filename or "file.jsonl")[:_MOST_FILENAME]
        expires = int(self._clock()) + self._limits.retention
        file = new_file(owner(caller), str(caller["tenant"]), "batch", name, expires)
        file = file.model_copy(update={"bytes": len(content)})
        self._bucket.put(file.key, content)
        self._table.add(file.row())
        return _file(file)

    def files(self, caller: Authorizer, limit: str | None, after: str | None) -> FileList:
        """The caller's files, newest first. Raises ApiError 400."""
        rows, more = self._table.newest(owner(caller), "file-", _limit(limit), _after(after))
        data = [_file(StoredFile.model_validate(row)) for row in rows]
        return FileList(data=data, **_ends([file.id for file in data]), has_more=more)

    def file(self, caller: Authorizer, id: str) -> File:
        """One file. Raises ApiError 404."""
        return _file(self._file(caller, id))

    def content(self, caller: Authorizer, id: str) -> Iterator[bytes]:
        """A file's bytes. Raises ApiError 404."""
        try:
            return self._bucket.stream(self._file(caller, id).key)
        except ObjectNotFoundError:
            raise _gone("file") from None

    def delete_file(self, caller: Authorizer, id: str) -> FileDeleted:
        """Forget a file. A batch that still reads it fails. Raises ApiError 404."""
        file = self._file(caller, id)
        self._bucket.delete(file.key)
        self._table.remove(file.pk, file.id)
        return FileDeleted(id=id)

    # ---- batches: see batches.py for how they look ----

    def submit_batch(self, caller: Authorizer, body: bytes, idempotency_key: str | None) -> Task:
        """A batch over an uploaded file, or the one that the idempotency key stands for; one over a file that
        is not in order has failed. Raises ApiError."""
        _may_ask(caller)
        request = BatchRequest.model_validate_json(self._checked(body))
        name, earlier = self._submissions.earlier_batch(caller, request, idempotency_key)
        if earlier is not None:
            return earlier
        file = self._file(caller, request.input_file_id)
        if file.purpose != "batch":
            raise _invalid("input_file_id", "A batch reads files of purpose 'batch' only.")
        try:
            content = self._bucket.get(file.key)
        except ObjectNotFoundError:
            raise _gone("file") from None
        count, errors = lines.problems(content, request.endpoint, self._limits.max_lines)
        lines_read = 0 if errors else count
        return self._submissions.batch(caller, name, request, file, lines=lines_read, errors=errors)

    def batch(self, caller: Authorizer, id: str) -> Task:
        """How a batch stands. Raises ApiError 404."""
        return self._task(caller, id, "batch")

    def batches(self, caller: Authorizer, limit: str | None, after: str | None) -> tuple[list[Task], bool]:
        """The caller's batches, newest first, and whether there are more. Raises ApiError 400."""
        rows, more = self._table.newest(owner(caller), "batch_", _limit(limit), _after(after))
        return [Task.model_validate(row) for row in rows], more

    def cancel_batch(self, caller: Authorizer, id: str) -> Task:
        """Stop a batch that is not over. Raises ApiError 404."""
        return self._cancelled(self._task(caller, id, "batch"))

    # ---- inside ----

    def _task(self, caller: Authorizer, id: str, kind: str) -> Task:
        pk = owner(caller)
        task = self._table.task(pk, id) if _is_id(id, f"{kind}_") else None
        if task is None:
            raise ApiError("not_found_error", f"There is no such {kind}.", code=f"{kind}_not_found")
        if not task.is_over and self._clock() > task.deadline + SLOT_GRACE_SECONDS:
            # Nobody works on it any more, or it would have been ended at its deadline.
            try:
                return self._table.end(task, "expired", {})
            except LeaseLostError:
                return self._table.task(task.pk, task.id) or task
        return task

    def _cancelled(self, task: Task) -> Task:
        if task.is_over:
            return task
        try:
            if task.kind == "job":
                return self._table.end(task, "cancelled", {}, still=("queued",))
        except LeaseLostError:
            pass  # a worker has begun with it
        try:
            task = self._table.cancel(task)
        except LeaseLostError:
            return self._table.task(task.pk, task.id) or task
        # Where the task waits for its turn, a worker ends it now rather than then.
        self._queue.send(Ticket(pk=task.pk, id=task.id))
        return task

    def _file(self, caller: Authorizer, id: str) -> StoredFile:
        pk = owner(caller)
        file = self._table.file(pk, id) if _is_id(id, "file-") else None
        if file is None:
            raise ApiError("not_found_error", "There is no such file.", code="file_not_found")
        return file

    def _checked(self, body: bytes) -> bytes:
        if len(body) > self._limits.max_body_bytes:
            raise _too_large(len(body), self._limits.max_body_bytes)
        try:
            body.decode()
            json.loads(body)
        except UnicodeDecodeError:
            raise ApiError(
                "invalid_request_error", "The body is not valid UTF-8.", code="invalid_encoding"
            ) from None
        except (ValueError, RecursionError):
            raise ApiError(
                "invalid_request_error", "The body is not valid JSON.", code="invalid_json"
            ) from None
        return body


def _may_ask(caller: Authorizer) -> None:
    owner(caller)
    if SCOPE_INFERENCE not in str(caller.get("scopes", "")).split():
        raise ApiError(
            "permission_error", f"This key lacks the scope '{SCOPE_INFERENCE}'.", code="insufficient_scope"
        )


def _file(file: StoredFile) -> File:
    return File(**file.model_dump(include=set(File.model_fields)))


def _limit(text: str | None) -> int:
    if text is None:
        return 20
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= MOST_LISTED:
        raise _invalid("limit", f"'limit' must be a number from 1 to {MOST_LISTED}.")
    return int(text)


def _after(text: str | None) -> str | None:
    if text is not None and not _ID.fullmatch(text):
        raise _invalid("after", "'after' must be the id that the last page ended with.")
    return text


def _is_id(text: str, prefix: str) -> bool:
    """Whether this may be an id of the kind: other kinds, and other rows, lie under the same owner."""
    return text.startswith(prefix) and _ID.fullmatch(text) is not None


def _ends(ids: list[str]) -> dict[str, str | None]:
    return {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}


def _invalid(param: str, message: str) -> ApiError:
    return ApiError("invalid_request_error", message, param=param, code="invalid_value")


def _too_large(size: int, limit: int) -> ApiError:
    return ApiError(
        "invalid_request_error",
        f"This has {size} bytes; at most {limit} are accepted.",
        code="request_too_large",
        status=413,
    )


def _gone(what: str) -> ApiError:
    return ApiError("not_found_error", f"The {what} is not kept any more.", code=f"{what}_gone")
