"""One instance: a process that answers `/ping` and `/invocations`, watched and restarted.

Starting → in service → (dead or silent → restarting → in service)* → stopped. Only an instance in service
takes requests. Knows nothing of variants and endpoints.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from local.sagemaker.images import Program

log = logging.getLogger(__name__)

PING_SECONDS = 1.0
PING_TIMEOUT = 2.0
CONNECT_TIMEOUT = 2.0  # AWS allows 250 ms; a busy laptop's own event loop may take longer to notice
FAILED_PINGS_ALLOWED = 15  # in a row; then the process is replaced
STOP_GRACE_SECONDS = 30.0
START_ATTEMPTS = 2
RESTART_DELAYS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
RESTART_SLOW_SECONDS = 60.0  # when the quick restarts are used up
STABLE_SECONDS = 60.0  # in service for so long, an instance gets its quick restarts back
_LEASH = Path(__file__).with_name("leash.py")
_TAIL_LINES = 20
_TAIL_CHARACTERS = 800
_LINE_LIMIT = 64 * 1024


class StartFailure(Exception):
    """An instance did not come into service; the message ends with the container's last log lines."""


class PortTaken(StartFailure):
    """Another process took the chosen port before the container could: chance, worth another try."""


@dataclass(frozen=True)
class Launch:
    """How an instance is started: its program, its environment (whole, nothing is inherited) and how long
    it may take to answer its first `/ping`, in seconds."""

    program: Program
    environment: Mapping[str, str]
    startup_timeout: float
    label: str  # "The primary container for production variant <name>"


class Ledger:
    """Where live processes are noted, so that a killed emulator's orphans can be found; this one forgets."""

    def record(self, pid: int, purpose: str) -> None:
        """A process was started."""

    def forget(self, pid: int) -> None:
        """A process has ended."""


class Instance:
    """One process and the task that keeps it alive. `on_line` gets each line that it writes."""

    def __init__(
        self,
        instance_id: str,
        launch: Launch,
        client: httpx.AsyncClient,
        on_line: Callable[[str], None],
        ledger: Ledger,
    ) -> None:
        self.id = instance_id
        self.outstanding = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.port = 0
        self._healthy = False
        self._retired = False
        self._launch = launch
        self._client = client
        self._on_line = on_line
        self._ledger = ledger
        self._process: asyncio.subprocess.Process | None = None
        self._pump: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    @property
    def in_service(self) -> bool:
        """Whether the instance takes requests."""
        return self._healthy and not self._retired

    @property
    def pid(self) -> int | None:
        """The process id (also its process group) while a process runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def url(self) -> str:
        """Base address of the container."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start the process and return when it is in service; raises StartFailure when it never is."""
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                await self._launch_once()
                break
            except (StartFailure, asyncio.CancelledError) as failure:
                await self._end_process()
                if attempt == START_ATTEMPTS or not isinstance(failure, PortTaken):
                    raise
        self._watch = asyncio.create_task(self._keep_alive(), name=f"sagemaker-watch-{self.id}")

    async def stop(self) -> None:
        """Take the instance out of service and end its process: SIGTERM, 30 s, SIGKILL."""
        self.retire()
        if self._watch:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await self._end_process()

    def retire(self) -> None:
        """Take no more requests, for good; those in flight go on."""
        self._retired = True

    def occupy(self) -> None:
        """A request begins."""
        self.outstanding += 1
        self._idle.clear()

    def vacate(self) -> None:
        """A request has ended."""
        self.outstanding -= 1
        if self.outstanding == 0:
            self._idle.set()

    async def drained(self, limit: float) -> None:
        """Return when no request is in flight, at the latest after `limit` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), limit)

    def suspect(self) -> None:
        """A request could not reach the container: no more requests until it answers a ping again."""
        self._healthy = False

    async def _launch_once(self) -> None:
        self.port = _free_port()
        self._tail.clear()
        environment = {**self._launch.environment, "SAGEMAKER_BIND_TO_PORT": str(self.port)}
        leash = (sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()))
        self._process = await asyncio.create_subprocess_exec(
            *leash,
            *self._launch.program.command,
            cwd=self._launch.program.folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=_LINE_LIMIT,
        )
        self._ledger.record(self._process.pid, f"SageMaker instance {self.id}")
        self._pump = asyncio.create_task(self._pump_lines(self._process), name=f"sagemaker-log-{self.id}")
        await self._await_first_ping()
        self._healthy = True

    async def _await_first_ping(self) -> None:
        process = self._process
        deadline = time.monotonic() + self._launch.startup_timeout
        while time.monotonic() < deadline:
            if await self._ping():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), PING_SECONDS)
            if process.returncode is not None:
                await self._finish_pump()
                kind = StartFailure if _port_is_free(self.port) else PortTaken
                raise kind(
                    f"{self._launch.label} stopped with exit status {process.returncode} before it passed "
                    f"the ping health check.{self._last_lines()}"
                )
        raise StartFailure(
            f"{self._launch.label} did not pass the ping health check. Please check CloudWatch logs for "
            f"this endpoint.{self._last_lines()}"
        )

    async def _keep_alive(self) -> None:
        """Watch the process until cancelled: replace it when it ends or stays silent."""
        restarts = 0
        while True:
            since = time.monotonic()
            await self._until_unfit()
            self._healthy = False
            if time.monotonic() - since > STABLE_SECONDS:
                restarts = 0
            while True:
                quick = restarts < len(RESTART_DELAYS)
                await self._end_process()
                await asyncio.sleep(RESTART_DELAYS[restarts] if quick else RESTART_SLOW_SECONDS)
                restarts += 1
                try:
                    await self._launch_once()
                    break
                except (StartFailure, OSError) as failure:
                    log.warning("instance %s: restart %d failed: %s", self.id, restarts, failure)

    async def _until_unfit(self) -> None:
        failures = 0
        while failures <= FAILED_PINGS_ALLOWED:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), PING_SECONDS)
            if self._process.returncode is not None:
                log.warning("instance %s ended with status %s", self.id, self._process.returncode)
                return
            healthy = await self._ping()
            failures = 0 if healthy else failures + 1
            # One slow ping is no reason to turn traffic away; two in a row are.
            self._healthy = healthy or (self._healthy and failures < 2)
        log.warning("instance %s failed %d pings in a row", self.id, failures)

    async def _ping(self) -> bool:
        timeout = httpx.Timeout(PING_TIMEOUT, connect=CONNECT_TIMEOUT)
        try:
            async with asyncio.timeout(PING_TIMEOUT):
                reply = await self._client.get(f"{self.url}/ping", timeout=timeout)
        except (httpx.HTTPError, TimeoutError):
            return False
        return reply.status_code == 200

    async def _end_process(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_GRACE_SECONDS)
            except TimeoutError:
                log.warning("instance %s ignored SIGTERM", self.id)
        # The leader is gone or deaf; whatever it started in its group goes with it.
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()
        await self._finish_pump()
        self._ledger.forget(process.pid)
        self._process = None

    async def _pump_lines(self, process: asyncio.subprocess.Process) -> None:
        while True:
            try:
                raw = await process.stdout.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                raw = end.partial
            except asyncio.LimitOverrunError as overrun:
                raw = await process.stdout.read(overrun.consumed)
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip("\r\n")
            self._tail.append(line)
            self._on_line(line)

    async def _finish_pump(self) -> None:
        if self._pump:
            # A grandchild may hold the pipe open; its lines are not worth waiting for.
            await asyncio.wait([self._pump], timeout=1.0)
            self._pump.cancel()

    def _last_lines(self) -> str:
        # The last words count: a reason has room for 1,024 characters in all.
        text = " | ".join(self._tail)[-_TAIL_CHARACTERS:]
        return f" Last log lines: {text}" if text else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
