"""One process that runs a function, and the one invocation it may be working on.

Knows the Runtime API and the process; does not know which other workers exist: it asks `next_work` for work.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from local.cloud.adapter_types import LambdaFunction
from local.cloud.lambda_service.logs import FunctionLog, report
from local.cloud.lambda_service.runtime_api import (
    FunctionError,
    NextInvocation,
    PayloadTooLargeError,
    RuntimeServer,
)
from local.cloud.process_table import ProcessTable

PAYLOAD_LIMIT = 6 * 1024 * 1024 + 100 * 1024
_LOG_DRAIN_SECONDS = 0.25
_REAP_SECONDS = 10.0
_LOG_TURNS = 4
_DRAIN_SECONDS = 30.0


class ResponseSink(Protocol):
    """Where an invocation's answer goes."""

    async def head(self, content_type: str, streaming: bool) -> None:
        """The answer begins."""

    async def piece(self, data: bytes) -> None:
        """A part of the answer, as written by the function. Waits when the reader is slow."""

    async def done(self) -> None:
        """The answer is complete."""

    async def failed(self, error_type: str, body: str) -> None:
        """The function failed; `body` is Lambda's error object as JSON."""


@dataclass
class Invocation:
    """One call on its way through a worker."""

    request_id: str
    payload: bytes
    seconds: float
    trace_id: str
    sink: ResponseSink
    began: float = 0.0
    completed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the answer was given and the log of this invocation is complete."""
    answered: bool = False
    error_type: str | None = None
    log_tail: bytes = b""


class FunctionWorker:
    """A function's process, from start to death. All methods run on the pool's event loop."""

    def __init__(
        self,
        function: LambdaFunction,
        process_table: ProcessTable,
        log: FunctionLog,
        *,
        next_work: Callable[[FunctionWorker], Awaitable[Invocation]],
        on_exit: Callable[[FunctionWorker, str, str], Awaitable[None]],
        on_finished: Callable[[Invocation, float], None],
    ) -> None:
        self._function, self._process_table, self._log = function, process_table, log
        self._next_work, self._on_exit, self._on_finished = next_work, on_exit, on_finished
        self._process: asyncio.subprocess.Process | None = None
        self._server = RuntimeServer()
        self._current: Invocation | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._began = time.monotonic()
        self._init_ms: float | None = None
        self._fault: FunctionError | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self.ready = False
        self.idle_since = time.monotonic()

    @property
    def log_stream(self) -> str:
        """The name of the process's log stream."""
        return self._log.stream

    async def start(
        self, command: Sequence[str], folder: Path, environment: Callable[[str], dict[str, str]]
    ) -> None:
        """Start the process in a folder; `environment` is given the address of its Runtime API. Raises
        OSError when the command cannot be run."""
        await self._server.start(self)
        try:
            await self._spawn(command, folder, environment(self._server.address))
        except OSError:
            self._server.close()
            raise

    async def _spawn(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=1 << 20,
        )
        self._process_table.record(self._process.pid, f"function {self._function.name}")
        reading = asyncio.create_task(self._read_output())
        self._tasks = [reading, asyncio.create_task(self._watch(reading))]

    async def stop(self) -> None:
        """End the process and wait until it is gone."""
        self.kill(signal.SIGTERM)
        if self._tasks:
            _done, pending = await asyncio.wait(self._tasks, timeout=2.0)
            if pending:
                self.kill(signal.SIGKILL)
                await asyncio.wait(pending, timeout=_REAP_SECONDS)

    @property
    def busy(self) -> bool:
        """Whether an invocation is running."""
        return self._current is not None

    @property
    def age_seconds(self) -> float:
        """Since the process was asked for."""
        return time.monotonic() - self._began

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal the process and whatever it started."""
        if self._process and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    # ---- what the runtime asks for ----

    async def next_invocation(self) -> NextInvocation:
        """The runtime is ready for work."""
        if not self.ready:
            self.ready, self._init_ms = True, (time.monotonic() - self._began) * 1000
        await self._complete_invocation()
        self.idle_since = time.monotonic()
        invocation = await self._next_work(self)
        self._current = invocation
        invocation.began = time.monotonic()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(invocation.seconds, self._expire, invocation)
        self._log.start(invocation.request_id, self._function.version)
        return NextInvocation(
            request_id=invocation.request_id,
            payload=invocation.payload,
            deadline_ms=int((time.time() + invocation.seconds) * 1000),
            function_arn=self._function.arn,
            trace_id=invocation.trace_id,
        )

    async def answer(
        self, request_id: str, content_type: str, streaming: bool, body: AsyncIterator[bytes]
    ) -> None:
        """The function answers."""
        invocation = self._running(request_id)
        try:
            if streaming:
                await invocation.sink.head(content_type, True)
                async for piece in body:
                    await invocation.sink.piece(piece)
            else:
                whole = await _whole(body)
                await invocation.sink.head(content_type, False)
                await invocation.sink.piece(whole)
        except FunctionError as fault:
            await self._fail(invocation, fault.error_type, fault.body or _error(fault.error_type, ""))
            return
        except PayloadTooLargeError:
            message = f"Response payload size exceeded maximum allowed payload size ({PAYLOAD_LIMIT} bytes)."
            await self._fail(
                invocation, "Function.ResponseSizeTooLarge", _error("Function.ResponseSizeTooLarge", message)
            )
            raise
        if not invocation.answered:
            invocation.answered = True
            await invocation.sink.done()

    async def invocation_error(self, request_id: str, fault: FunctionError) -> None:
        """The function raised."""
        await self._fail(self._running(request_id), fault.error_type, fault.body)

    async def init_error(self, fault: FunctionError) -> None:
        """The code could not be loaded; the process will exit."""
        self._fault = fault

    # ---- endings ----

    def _running(self, request_id: str) -> Invocation:
        if self._current is None or self._current.request_id != request_id:
            raise KeyError(request_id)
        return self._current

    async def _fail(self, invocation: Invocation, error_type: str, body: str) -> None:
        if not invocation.answered:
            invocation.answered, invocation.error_type = True, error_type
            await invocation.sink.failed(error_type, body)

    def _expire(self, invocation: Invocation) -> None:
        message = (
            f"RequestId: {invocation.request_id} Error: Task timed out after {invocation.seconds:.2f} seconds"
        )
        self._fault = FunctionError("Sandbox.Timedout", _error("Sandbox.Timedout", message))
        self._log.write(
            f"{_utc()} {invocation.request_id} Task timed out after {invocation.seconds:.2f} seconds"
        )
        self.kill()

    async def _complete_invocation(self) -> None:
        """The previous invocation is over: complete its log and its numbers."""
        invocation, self._current = self._current, None
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None
        if invocation is None:
            return
        duration_ms = (time.monotonic() - invocation.began) * 1000
        for _turn in range(_LOG_TURNS):
            # What the function wrote before it asked for more work is already in the pipe: let it be read.
            await asyncio.sleep(0)
        self._log.write(f"END RequestId: {invocation.request_id}")
        self._log.write(
            report(
                invocation.request_id,
                duration_ms=duration_ms,
                memory_mb=int(self._function.configuration.get("MemorySize", 128)),
                used_mb=self._used_mb(),
                init_ms=self._init_ms,
            )
        )
        self._init_ms = None
        invocation.log_tail = self._log.tail()
        self._log.flush()
        invocation.completed.set()
        self._on_finished(invocation, duration_ms)

    async def _read_output(self) -> None:
        stream = self._running_process().stdout
        assert stream is not None
        while True:
            try:
                line = await stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                if end.partial:
                    self._write(end.partial)
                return
            except asyncio.LimitOverrunError as long:
                line = await stream.readexactly(long.consumed)
            self._write(line)

    def _write(self, line: bytes) -> None:
        self._log.write(line.decode("utf-8", "replace").rstrip("\r\n"))
        if self._current is None:
            self._log.flush()

    async def _watch(self, reading: asyncio.Task[Any]) -> None:
        """Wait for the process to end, then settle what it leaves behind."""
        process = self._running_process()
        status = await process.wait()
        # A grandchild may still hold the pipe; it goes with its parent.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.wait([reading], timeout=_LOG_DRAIN_SECONDS)
        await self._server.drained(_DRAIN_SECONDS)
        self._process_table.forget(process.pid)
        how = f"exit status {status}" if status >= 0 else f"signal: {signal.Signals(-status).name}"
        request_id = self._current.request_id if self._current else "none"
        message = f"RequestId: {request_id} Error: Runtime exited with error: {how}"
        fault = self._fault or FunctionError("Runtime.ExitError", _error("Runtime.ExitError", message))
        if self._current:
            await self._fail(self._current, fault.error_type, fault.body)
        await self._complete_invocation()
        self._log.flush()
        self._server.close()
        await self._on_exit(self, fault.error_type, fault.body)

    def _running_process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "the process has not been started"
        return self._process

    def _used_mb(self) -> int:
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{self._running_process().pid}/status").read_text()
            return int(status.split("VmHWM:")[1].split()[0]) // 1024
        return 0


async def _whole(body: AsyncIterator[bytes]) -> bytes:
    pieces, size = [], 0
    async for piece in body:
        size += len(piece)
        if size > PAYLOAD_LIMIT:
            raise PayloadTooLargeError
        pieces.append(piece)
    return b"".join(pieces)


def _error(error_type: str, message: str) -> str:
    return json.dumps({"errorType": error_type, "errorMessage": message})


def _utc() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
