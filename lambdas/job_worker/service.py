"""The worker: goes on with a task where its checkpoint says, until it is over or this run's time is.

A few lines at a time are asked; then their outcomes are stored and the checkpoint is moved, in this order. A
worker that dies leaves a claim that runs out: the next one repeats at most those few lines. What the model or
a budget refuses for now is asked again later, until the task's deadline. Knows neither SQS nor Lambda.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from contracts.errors import ErrorObject
from contracts.jobs import Ticket
from contracts.tasks import StoredFile, Task
from lambdas.aws.sqs import LONGEST_DELAY_SECONDS
from lambdas.aws.work_table import LeaseLostError
from lambdas.job_worker import completion as ending
from lambdas.job_worker.client import Answering, ask
from lambdas.pipeline import batch_lines as lines
from lambdas.pipeline.batch_lines import Outcome
from lambdas.runtime.logs import Logger

MOST_ATTEMPTS = 3
"""Runs in a row that may end without any progress; then the task has failed."""

MOST_TRIES = 3
"""How often a line is asked whose answer is a failure of ours."""

MARGIN_SECONDS = 15.0
"""Kept free at the end of a run, to store outcomes and to write a batch's files."""

_PART_LINES = 64
_FIRST_WAIT_SECONDS = 5
_LONGEST_PAUSE_SECONDS = 2
"""A rate limit that gives way so soon is waited for on the spot: a ticket would take longer."""


class Table(ending.Table, Protocol):
    """See `store.WorkTable`."""

    def lease(self, ticket: Ticket, worker: str, seconds: float) -> Task: ...

    def task(self, pk: str, id: str) -> Task | None: ...

    def file(self, pk: str, id: str) -> StoredFile | None: ...

    def advance(self, task: Task, values: dict[str, Any]) -> Task: ...


class Queue(Protocol):
    """See `store.TicketQueue`."""

    def send(self, ticket: Ticket, delay: int = 0) -> None: ...


@dataclass(frozen=True)
class Run:
    """One invocation: its name, its trace, and how many seconds are left of it."""

    id: str
    trace: str | None
    seconds_left: Callable[[], float]


class JobWorker:
    """Works on tickets. `ended` is told of each task that is over."""

    def __init__(
        self,
        table: Table,
        bucket: ending.Bucket,
        queue: Queue,
        service: Answering,
        logger: Logger,
        *,
        parallel: int,
        request_seconds: int,
        ended: Callable[[Task], None],
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pause = pause
        self._table, self._bucket, self._queue, self._service = table, bucket, queue, service
        self._logger, self._clock = logger, clock
        self._ending = ending.Ending(table, bucket, logger, ended)
        self._parallel, self._request_seconds = parallel, request_seconds

    def work(self, ticket: Ticket, run: Run) -> None:
        """Go on with a ticket's task. What fails unforeseen is tried again later, MOST_ATTEMPTS times."""
        task = self._claim(ticket, run)
        if task is None:
            return
        try:
            self._go_on(task, run)
        except LeaseLostError:
            self._logger.warning("lease_lost", task=ticket.id)
        except Exception as error:  # noqa: BLE001 - a task must never lose its ticket
            self._logger.failure("work_failed", error, task=ticket.id)
            self._later(task, _FIRST_WAIT_SECONDS)

    def _claim(self, ticket: Ticket, run: Run) -> Task | None:
        try:
            return self._table.lease(ticket, run.id, self._request_seconds + 2 * MARGIN_SECONDS)
        except LeaseLostError:
            task = self._table.task(ticket.pk, ticket.id)
            if task is not None and not task.is_over:
                # Another worker holds it, or one that died did: look again when its claim has run out.
                wait = max(1, int(task.lease_until - self._clock()) + 1)
                self._queue.send(ticket, min(wait, LONGEST_DELAY_SECONDS))
            return None

    def _go_on(self, task: Task, run: Run) -> None:
        if task.input_file_id and self._table.file(task.pk, task.input_file_id) is None:
            gone = _error("input_gone", "The file of requests has been deleted.")
            self._ending.end(task, [], "failed", gone)
            return
        texts = lines.texts(self._bucket.get(task.input_key))
        if task.attempts > MOST_ATTEMPTS:
            message = f"Its worker stopped {MOST_ATTEMPTS} times at request {task.next_line + 1}."
            self._ending.end(task, texts, "failed", _error("worker_stopped", message))
            return
        part = _Part(task.parts)
        while True:
            if task.status == "cancelling":
                self._ending.end(task, texts, "cancelled", None)
                return
            if task.next_line >= len(texts):
                self._ending.end(task, texts, "completed", None)
                return
            if self._clock() >= task.deadline:
                self._ending.end(task, texts, "expired", None)
                return
            if run.seconds_left() < self._request_seconds + MARGIN_SECONDS:
                self._later(task, 0, progressed=True)
                return
            if len(part.outcomes) >= _PART_LINES:
                part = _Part(task.parts)
            results = self._ask(task, texts, run)
            task = self._store(task, part, results)
            waiting = [result for result in results if _is_wait(result.status)]
            if waiting and all(_is_moment(result) for result in waiting):
                self._pause(max(result.retry_after or 1 for result in waiting))
                continue
            if waiting:
                self._later(task, _wait_seconds(task, waiting), progressed=True, waited=True)
                return
            if task.tries:
                self._pause(_FIRST_WAIT_SECONDS)

    def _ask(self, task: Task, texts: list[bytes], run: Run) -> list[Outcome]:
        todo = [n for n in range(task.next_line, len(texts)) if n not in task.ahead][: self._parallel]
        seconds = min(self._request_seconds, max(1.0, task.deadline - self._clock()))

        def one(number: int) -> Outcome:
            failures = task.tries.get(str(number), 0)
            again = functools.partial(_will_retry, failures=failures)
            return ask(self._service, task, number, texts[number], seconds, run.trace, again)

        if len(todo) == 1:
            return [one(todo[0])]
        with ThreadPoolExecutor(len(todo)) as pool:
            return list(pool.map(one, todo))

    def _store(self, task: Task, part: _Part, results: list[Outcome]) -> Task:
        """Outcomes first, then the checkpoint that names them. Raises LeaseLostError."""
        tries = dict(task.tries)
        final = []
        for result in results:
            failures = tries.get(str(result.line), 0)
            if not _will_retry(result.status, failures):
                tries.pop(str(result.line), None)
                final.append(result)
            elif not _is_wait(result.status):
                tries[str(result.line)] = failures + 1
        values: dict[str, Any] = {
            "tries": tries,
            "lease_until": self._clock() + self._request_seconds + 2 * MARGIN_SECONDS,
        }
        if final:
            part.outcomes += final
            key = part.key_of(task)
            self._bucket.put(key, b"".join(outcome.to_json() for outcome in part.outcomes))
            next_line, ahead = _advanced(task, final)
            values |= {
                "next_line": next_line,
                "ahead": ahead,
                "parts": part.number + 1,
                "completed": task.completed + sum(outcome.is_success for outcome in final),
                "failed": task.failed + sum(not outcome.is_success for outcome in final),
                "attempts": 0,
                "waits": 0,
            }
        try:
            return self._table.advance(task, values)
        except LeaseLostError:
            self._take_back(task, part)
            raise

    def _take_back(self, task: Task, part: _Part) -> None:
        """Outcomes of a task that was forgotten or ended meanwhile must not be left lying."""
        now = self._table.task(task.pk, task.id)
        if part.outcomes and (now is None or (now.is_over and task.kind == "batch")):
            self._bucket.delete(part.key_of(task))

    def _later(self, task: Task, seconds: int, *, progressed: bool = False, waited: bool = False) -> None:
        """Let go of the task and put its ticket back. Without progress the run counts as an attempt."""
        values: dict[str, Any] = {"lease_until": 0.0}
        if progressed:
            values["attempts"] = 0
        if waited:
            values["waits"] = task.waits + 1
        # The ticket first: a task without one would be forgotten, one with two is worked on once.
        self._queue.send(Ticket(pk=task.pk, id=task.id), max(seconds, 1))
        self._table.advance(task, values)


class _Part:
    """Outcomes that share an object, which is written anew as they become more. Each run has its own."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.outcomes: list[Outcome] = []

    def key_of(self, task: Task) -> str:
        """The object they share."""
        return task.result_key if task.kind == "job" else task.part_key(self.number)


def _error(code: str, message: str) -> ErrorObject:
    return ErrorObject(message=message, type="server_error", code=code)


def _is_wait(status: int) -> bool:
    """A refusal for now: the model is full or asleep, or a budget is spent."""
    return status in (429, 503)


def _will_retry(status: int, failures: int) -> bool:
    """Whether a line is asked once more after such a reply; `failures` of ours have been met before."""
    return _is_wait(status) or (status >= 500 and failures + 1 < MOST_TRIES)


def _is_moment(outcome: Outcome) -> bool:
    """A refusal by the key's own rate limit, which gives way in a moment."""
    error = outcome.body.get("error") if isinstance(outcome.body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code == "requests_per_second_exceeded" and (outcome.retry_after or 0) <= _LONGEST_PAUSE_SECONDS


def _wait_seconds(task: Task, waiting: list[Outcome]) -> int:
    """What was asked for, or longer each time nothing came of it."""
    asked = max(outcome.retry_after or 0 for outcome in waiting)
    return min(LONGEST_DELAY_SECONDS, max(asked, _FIRST_WAIT_SECONDS << min(task.waits, 6)))


def _advanced(task: Task, final: Iterable[Outcome]) -> tuple[int, list[int]]:
    done = {*task.ahead, *(outcome.line for outcome in final)}
    next_line = task.next_line
    while next_line in done:
        done.remove(next_line)
        next_line += 1
    return next_line, sorted(done)
