"""How a task begins: its row, its input, its place among the key's open tasks, its ticket in the queue.

Used by the jobs' own routes and by the model routes when they hand a request over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from contracts.errors import ErrorObject
from contracts.jobs import BatchError, BatchRequest, Job, Route, Ticket, work_pk
from contracts.tasks import StoredFile, Task, new_id
from lambdas.pipeline.idempotency import fingerprint, idempotent_name, the_same
from lambdas.runtime.errors import ApiError

SLOT_GRACE_SECONDS = 3_600
"""A slot frees itself this long after its task's deadline, whatever became of the task."""

_LONGEST_USER = 256  # a request with a longer one is refused when it is asked


class Tasks(Protocol):
    """Where tasks are kept; see `store.WorkTable`."""

    def task(self, pk: str, id: str) -> Task | None: ...

    def add(self, row: dict[str, Any]) -> bool: ...

    def remove(self, pk: str, id: str) -> None: ...

    def take_slot(self, pk: str, task: str, slots: int, until: int) -> str | None: ...

    def free_slot(self, pk: str, slot: str | None, task: str) -> None: ...

    def agreed_id(self, pk: str, name: str, id: str, until: int) -> str: ...


class Objects(Protocol):
    """Where inputs are kept; see `store.Bucket`."""

    def put(self, key: str, body: bytes) -> None: ...


class Queue(Protocol):
    """Where tickets wait; see `store.TicketQueue`."""

    def send(self, ticket: Ticket, delay: int = 0) -> None: ...


class Submissions:
    """Accepts jobs and batches. `deadline` and `retention` are in seconds from now."""

    def __init__(
        self,
        table: Tasks,
        bucket: Objects,
        queue: Queue,
        *,
        open_per_key: int,
        deadline: int,
        retention: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table, self._bucket, self._queue = table, bucket, queue
        self._open_per_key = open_per_key
        self._deadline, self._retention = deadline, retention
        self._clock = clock

    def job(
        self,
        authorizer: Mapping[str, Any],
        route: Route,
        body: Mapping[str, Any],
        idempotency_key: str | None = None,
    ) -> Task:
        """A job for one request; with a known idempotency key, the job that was made for it.

        Raises ApiError 400, 409 where the key was used for another request, 429 where too many are open.
        """
        pk = owner(authorizer)
        line = {"custom_id": "job", "method": "POST", "url": route, "body": body}
        asked = fingerprint(line)
        name = new_id("job", self._clock())
        if idempotency_key is not None:
            name = f"job_{idempotent_name(pk, idempotency_key)}"
            earlier = self._table.task(pk, name)
            if earlier is not None:
                return the_same(earlier, asked)
        user = body.get("user")
        task = self._task(
            authorizer,
            pk=pk,
            id=name,
            kind="job",
            url=route,
            lines=1,
            fingerprint=asked,
            user=user if isinstance(user, str) and len(user) <= _LONGEST_USER else None,
        )
        return self._begin(task, json.dumps(line).encode())

    def earlier_batch(
        self, authorizer: Mapping[str, Any], request: BatchRequest, idempotency_key: str | None
    ) -> tuple[str, Task | None]:
        """The id of a new batch, and the batch where there is one under the idempotency key already.

        Raises ApiError 400, 409 where the key was used for another request.
        """
        pk, now = owner(authorizer), self._clock()
        new = new_id("batch", now)
        if idempotency_key is None:
            return new, None
        # Batches are listed by their ids, which sort by time: the key only leads to one.
        name = idempotent_name(pk, idempotency_key)
        agreed = self._table.agreed_id(pk, name, new, int(now) + self._retention)
        earlier = self._table.task(pk, agreed)
        return agreed, None if earlier is None else the_same(earlier, fingerprint(request.model_dump()))

    def batch(
        self,
        authorizer: Mapping[str, Any],
        id: str,
        request: BatchRequest,
        file: StoredFile,
        *,
        lines: int,
        errors: list[BatchError] | None = None,
    ) -> Task:
        """A batch of so many lines; with errors of its file it has failed before it began.

        Args:
            authorizer: Whose it is.
            id: See `earlier_batch`.
            request: What was asked.
            file: What it reads.
            lines: Requests in the file.
            errors: What is wrong with the file, which then has no lines.

        Raises:
            ApiError: 429, too many are open; 409, the idempotency key was used for another one meanwhile.
        """
        task = self._task(
            authorizer,
            pk=owner(authorizer),
            id=id,
            kind="batch",
            url=request.endpoint,
            lines=lines,
            input_file_id=file.id,
            input_key=file.key,
            fingerprint=fingerprint(request.model_dump()),
            metadata=request.metadata,
        )
        if not errors:
            return self._begin(task, None)
        task = task.model_copy(
            update={"status": "failed", "finished_at": int(self._clock()), "errors": errors}
        )
        if self._table.add(task.row()):
            return task
        return the_same(self._table.task(task.pk, id) or task, task.fingerprint)

    def _task(self, authorizer: Mapping[str, Any], **fields: Any) -> Task:
        now = int(self._clock())
        task = Task(
            status="queued",
            tenant=str(authorizer.get("tenant", "")),
            authorizer={name: str(value) for name, value in authorizer.items()},
            created_at=now,
            deadline=now + self._deadline,
            expires_at=now + self._retention,
            **{"input_key": "", **fields},
        )
        return task if task.input_key else task.model_copy(update={"input_key": f"{task.folder}/input.jsonl"})

    def _begin(self, task: Task, body: bytes | None) -> Task:
        """The input first and the ticket last: whoever sees one of them finds what comes before it."""
        until = task.deadline + SLOT_GRACE_SECONDS
        slot = self._table.take_slot(task.pk, task.id, self._open_per_key, until)
        if slot is None:
            raise ApiError(
                "rate_limit_error",
                f"This key has {self._open_per_key} jobs and batches under way, and may have no more.",
                code="too_many_open_jobs",
                retry_after=30,
            )
        task = task.model_copy(update={"slot": slot})
        try:
            if body is not None:
                self._bucket.put(task.input_key, body)
            if not self._table.add(task.row()):
                # Another call with the same idempotency key was a moment faster.
                self._table.free_slot(task.pk, slot, task.id)
                earlier = self._table.task(task.pk, task.id)
                if earlier is None:
                    raise ApiError("server_error", "The job could not be made. Try again.", status=503)
                return the_same(earlier, task.fingerprint)
            try:
                self._queue.send(Ticket(pk=task.pk, id=task.id))
            except Exception:
                self._table.remove(task.pk, task.id)
                raise
        except Exception:
            self._table.free_slot(task.pk, slot, task.id)
            raise
        return task


def owner(authorizer: Mapping[str, Any]) -> str:
    """The partition of the caller's own work. Raises ApiError 401 without a tenant."""
    tenant = authorizer.get("tenant")
    if not tenant:
        raise ApiError("authentication_error", "A valid API key is needed.", code="invalid_api_key")
    key = str(authorizer.get("key_id") or authorizer.get("key_name") or "")
    return work_pk(str(tenant), key, str(authorizer.get("subject") or ""))


def job_of(task: Task, base: str = "") -> Job:
    """A job's row as its caller sees it; `base` stands before the caller's routes."""
    finished = task.status == "completed"
    return Job(
        id=task.id,
        url=task.url,
        status=task.status,
        created_at=task.created_at,
        started_at=task.started_at,
        finished_at=task.finished_at,
        deadline=task.deadline,
        expires_at=task.expires_at,
        result_url=f"{base}/v1/jobs/{task.id}/result" if finished else None,
        error=task.error or (ErrorObject(**_EXPIRED) if task.status == "expired" else None),
    )


_EXPIRED = {"message": "The job was not answered before its deadline.", "type": "timeout_error"}
