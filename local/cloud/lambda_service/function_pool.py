"""The processes of one deployed function: as many as there are concurrent invocations, up to a limit.

Runs on the pool's event loop only; `service` is the way in.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
import uuid
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from local.cloud import ministack_adapter
from local.cloud.adapter_types import LambdaFunction
from local.cloud.config import CloudConfig
from local.cloud.lambda_service.environment import command, log_group, unpack, variables
from local.cloud.lambda_service.logs import FunctionLog
from local.cloud.lambda_service.results import TooManyRequestsError
from local.cloud.lambda_service.worker import FunctionWorker, Invocation

MAX_PROCESSES_PER_FUNCTION = 16
"""Processes per function. Lambda's own limit is the account's (1,000); this one protects the laptop, so
further invocations wait instead of being refused."""

_QUEUE_LIMIT = 1000
_INIT_SECONDS = 120.0
_IDLE_SECONDS = 300.0
_MAX_AGE_SECONDS = 6 * 3600.0
_QUEUED_SECONDS = 300.0


@dataclass(frozen=True)
class _Queued:
    invocation: Invocation
    since: float


class FunctionPool:
    """Workers and waiting invocations of one version of one function's code and configuration."""

    def __init__(self, config: CloudConfig, function: LambdaFunction) -> None:
        self._config, self._function = config, function
        self._pending: deque[_Queued] = deque()
        self._idle: list[asyncio.Future[Invocation]] = []
        self._workers: set[FunctionWorker] = set()
        self._running = 0
        self._retired = False
        self._tasks: set[asyncio.Task[Any]] = set()

    async def submit(self, invocation: Invocation) -> None:
        """Queue an invocation for the next free process. Raises TooManyRequestsError."""
        reserved = self._function.reserved_concurrency
        if reserved is not None and self._running + len(self._pending) >= reserved:
            self._throttled(
                "ReservedFunctionConcurrentInvocationLimitExceeded", "Rate Exceeded: reserved concurrency"
            )
        if len(self._pending) >= _QUEUE_LIMIT:
            self._throttled("ConcurrentInvocationLimitExceeded", "Rate Exceeded: too many invocations wait")
        if self._idle:
            # The most recently used process: the others may then be reaped.
            self._idle.pop().set_result(invocation)
            return
        self._pending.append(_Queued(invocation, time.monotonic()))
        self._spawn_if_needed()

    async def retire(self) -> None:
        """The code or configuration changed, or the cloud stops: finish what runs, start nothing new."""
        self._retired = True
        await asyncio.gather(*(worker.stop() for worker in list(self._workers) if not worker.busy))

    async def stop(self) -> None:
        """End every process now."""
        self._retired = True
        await asyncio.gather(*(worker.stop() for worker in list(self._workers)))
        for task in list(self._tasks):
            task.cancel()

    async def reap(self) -> None:
        """End processes that idle too long, grew old or never became ready."""
        now = time.monotonic()
        for worker in list(self._workers):
            stuck = not worker.ready and worker.age_seconds > _INIT_SECONDS
            idle_too_long = worker.ready and not worker.busy and now - worker.idle_since > _IDLE_SECONDS
            old = worker.ready and not worker.busy and worker.age_seconds > _MAX_AGE_SECONDS
            if stuck or idle_too_long or old:
                await worker.stop()
        while self._pending and now - self._pending[0].since > _QUEUED_SECONDS:
            queued = self._pending.popleft()
            body = _error("Sandbox.Timedout", "no process became free in time")
            await queued.invocation.sink.failed("Sandbox.Timedout", body)
            queued.invocation.completed.set()

    @property
    def empty(self) -> bool:
        """Whether nothing runs or waits here."""
        return not self._workers and not self._pending

    # ---- work ----

    async def _next_work(self, _worker: FunctionWorker) -> Invocation:
        if self._retired and not self._pending:
            raise ConnectionResetError("the function changed")
        if self._pending:
            invocation = self._pending.popleft().invocation
        else:
            invocation = await self._wait_for_work()
        self._running += 1
        return invocation

    async def _wait_for_work(self) -> Invocation:
        waiting: asyncio.Future[Invocation] = asyncio.get_running_loop().create_future()
        self._idle.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                # Work was handed over in the very moment the process went away: the next one takes it.
                self._pending.appendleft(_Queued(waiting.result(), time.monotonic()))
                self._spawn_if_needed()
            raise
        finally:
            if waiting in self._idle:
                self._idle.remove(waiting)

    def _on_finished(self, invocation: Invocation, duration_ms: float) -> None:
        self._running -= 1
        self._count(
            Invocations=1, Errors=1 if invocation.error_type else 0, Duration=duration_ms, Throttles=0
        )

    def _throttled(self, reason: str, message: str) -> None:
        self._count(Throttles=1)
        raise TooManyRequestsError(reason, message)

    def _count(self, **values: float) -> None:
        dimensions = [{"Name": "FunctionName", "Value": self._function.name}]
        data = [
            {
                "MetricName": name,
                "Value": value,
                "Unit": "Milliseconds" if name == "Duration" else "Count",
                "Dimensions": dimensions,
            }
            for name, value in values.items()
        ]
        ministack_adapter.put_metric_data("AWS/Lambda", data)

    # ---- processes ----

    def _spawn_if_needed(self) -> None:
        starting = sum(not worker.ready for worker in self._workers)
        if len(self._pending) > starting and len(self._workers) < MAX_PROCESSES_PER_FUNCTION:
            worker = self._new_worker()
            self._workers.add(worker)
            self._in_background(self._start(worker))

    def _new_worker(self) -> FunctionWorker:
        function = self._function
        stream = f"{time.strftime('%Y/%m/%d')}/[{function.version}]{uuid.uuid4().hex}"
        log = FunctionLog(log_group(function), stream, self._send_logs, ministack_adapter.put_metric_data)
        return FunctionWorker(
            function,
            self._config.processes,
            log,
            next_work=self._next_work,
            on_exit=self._on_exit,
            on_finished=self._on_finished,
        )

    def _send_logs(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
        """A function whose role may not write to its log group has no log, as on Lambda."""
        place = f"{self._config.region}:{self._config.account}:log-group:{group}:log-stream:{stream}"
        role = self._function.configuration["Role"]
        if ministack_adapter.role_allows(role, "logs:PutLogEvents", f"arn:aws:logs:{place}"):
            ministack_adapter.put_log_events(group, stream, events)

    async def _start(self, worker: FunctionWorker) -> None:
        function, python = self._function, self._config.python("lambda")
        try:
            folders = await asyncio.to_thread(unpack, function, self._config.folder / "code")
            credentials = ministack_adapter.role_credentials(
                function.configuration["Role"], function.name, service="lambda.amazonaws.com"
            )
            environment = functools.partial(
                variables,
                function,
                folders,
                python=python,
                endpoint_url=self._config.endpoint_url,
                region=self._config.region,
                credentials=credentials,
                log_stream=worker.log_stream,
            )
            start = command(function, folders, python)
            await worker.start(start, folders.task, lambda address: environment(runtime_api=address))
        except PermissionError as error:
            await self._on_exit(worker, "AccessDeniedException", _error("AccessDeniedException", str(error)))
        except OSError as error:
            message = f"Error: {error.strerror or error}"
            await self._on_exit(
                worker, "Runtime.InvalidEntrypoint", _error("Runtime.InvalidEntrypoint", message)
            )

    async def _on_exit(self, worker: FunctionWorker, error_type: str, body: str) -> None:
        """A process ended. One that never became ready takes the oldest waiting invocation with it, or a
        function that cannot start would be started for ever."""
        self._workers.discard(worker)
        if not worker.ready and self._pending:
            invocation = self._pending.popleft().invocation
            self._count(Invocations=1, Errors=1)
            await invocation.sink.failed(error_type, body)
            invocation.completed.set()
        self._spawn_if_needed()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _error(error_type: str, message: str) -> str:
    return json.dumps({"errorType": error_type, "errorMessage": message})
