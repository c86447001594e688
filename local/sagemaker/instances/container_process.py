"""A container as a process: started so that it dies with its parent, its lines read, its whole group ended.

Knows nothing of health checks and requests; endpoints' instances and jobs are built on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, Self

from local.sagemaker.instances.images import Program

log = logging.getLogger(__name__)

STOP_GRACE_SECONDS = 30.0
_PARENT_DEATH_SIGNAL = Path(__file__).with_name("parent_death_signal.py")
_LINE_LIMIT = 64 * 1024
_TAIL_LINES = 20
_TAIL_CHARACTERS = 800
_PUMP_GRACE_SECONDS = 1.0


class ProcessTable(Protocol):
    """Where live processes are recorded, so that those which outlive a killed emulator can be found."""

    def record(self, pid: int, purpose: str) -> None:
        """Record a process that was started.

        Args:
            pid: The process id, which is also its group's.
            purpose: What it runs, in words for a list of processes.
        """

    def forget(self, pid: int) -> None:
        """Remove a process that has ended.

        Args:
            pid: The process id.
        """


class ContainerProcess:
    """One running process, leader of a group of its own. Make it with `start`."""

    def __init__(
        self, process: asyncio.subprocess.Process, on_line: Callable[[str], None], processes: ProcessTable
    ) -> None:
        self._process = process
        self._on_line = on_line
        self._processes = processes
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        if process.stdout is None:
            raise ValueError("the process must be started with stdout=PIPE")
        self._pump = asyncio.create_task(
            self._pump_lines(process.stdout), name=f"container-log-{process.pid}"
        )

    @classmethod
    async def start(
        cls,
        program: Program,
        environment: Mapping[str, str],
        *,
        purpose: str,
        on_line: Callable[[str], None],
        processes: ProcessTable,
    ) -> Self:
        """Start a program with exactly this environment; `on_line` gets each line that it writes."""
        launcher = (sys.executable, "-I", "-S", str(_PARENT_DEATH_SIGNAL), str(os.getpid()))
        process = await asyncio.create_subprocess_exec(
            *launcher,
            *program.command,
            cwd=program.folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=_LINE_LIMIT,
        )
        processes.record(process.pid, purpose)
        return cls(process, on_line, processes)

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.returncode

    async def ended_within(self, seconds: float) -> bool:
        """Wait for the end, for at most so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), seconds)
        return self._process.returncode is not None

    async def end(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """SIGTERM to the group, SIGKILL after the grace; returns when it is gone and its lines are read."""
        if self.exit_status is None:
            self._signal(signal.SIGTERM)
            if not await self.ended_within(grace_seconds):
                log.warning("process %d ignored SIGTERM", self.pid)
        # The leader is gone or deaf; whatever it started in its group goes with it.
        self._signal(signal.SIGKILL)
        await self._process.wait()
        await self.read_to_end()
        self._processes.forget(self.pid)

    def kill(self) -> bool:
        """SIGKILL to the group, without waiting; whether it still ran."""
        running = self.exit_status is None
        if running:
            self._signal(signal.SIGKILL)
        return running

    async def read_to_end(self) -> None:
        """Wait for the last lines of a process that has ended."""
        # A grandchild may hold the pipe open; its lines are not worth waiting for.
        await asyncio.wait([self._pump], timeout=_PUMP_GRACE_SECONDS)
        self._pump.cancel()

    def last_lines(self) -> str:
        """The latest lines, joined and cut from the front to fit into a failure reason."""
        return " | ".join(self._tail)[-_TAIL_CHARACTERS:]

    async def _pump_lines(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                raw = await stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                raw = end.partial
            except asyncio.LimitOverrunError as overrun:
                raw = await stream.read(overrun.consumed)
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip("\r\n")
            self._tail.append(line)
            self._on_line(line)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
