"""One instance: a process that answers `/ping` and `/invocations`, watched and restarted.

Starting → in service → (dead or silent → restarting → in service)* → stopped. Only an instance in service
takes requests. Knows nothing of variants and endpoints.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import httpx

from contracts.container import ENV_SAGEMAKER_PORT
from local.sagemaker.instances.container_process import ContainerProcess, ProcessTable
from local.sagemaker.instances.images import Program

log = logging.getLogger(__name__)

PING_SECONDS = 1.0
PING_TIMEOUT = 2.0
CONNECT_TIMEOUT = 2.0  # AWS allows 250 ms; a busy laptop's own event loop may take longer to notice
FAILED_PINGS_ALLOWED = 15  # in a row; then the process is replaced
START_ATTEMPTS = 2
RESTART_DELAYS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
RESTART_SLOW_SECONDS = 20.0  # when the quick restarts are used up
STABLE_SECONDS = 60.0  # in service for so long, an instance gets its quick restarts back


class InstanceStartError(Exception):
    """An instance did not come into service; the message ends with the container's last log lines."""


class PortTakenError(InstanceStartError):
    """Another process took the chosen port before the container could: chance, worth another try."""


@dataclass(frozen=True)
class LaunchSpec:
    """How an instance is started: its program, its environment (whole, nothing is inherited, made anew for
    each start as credentials expire), how long it may take to answer its first `/ping` (seconds), the role in
    whose name its lines are logged, and what failure reasons call it."""

    program: Program
    environment: Callable[[], Mapping[str, str]]
    startup_timeout: float
    role_arn: str
    label: str


class EndpointInstance:
    """One process and the task that keeps it alive."""

    def __init__(
        self,
        instance_id: str,
        launch: LaunchSpec,
        client: httpx.AsyncClient,
        on_line: Callable[[str], None],
        processes: ProcessTable,
        initialize_container: Callable[[EndpointInstance], Awaitable[None]] | None = None,
        instance_type: str | None = None,
    ) -> None:
        """Make an instance that is not started.

        Args:
            instance_id: The id in log streams and in the inventory, `i-…`.
            launch: What to run and how long it may take to start.
            client: Sends the health checks.
            on_line: Gets each line that the process writes.
            processes: Records the process while it lives.
            initialize_container: Awaited with each started container, also with one that replaces another,
                before it takes requests.
            instance_type: The instance type that the variant obtained; None for a serverless variant.
        """
        self.id = instance_id
        self.instance_type = instance_type
        self._initialize_container = initialize_container
        self.outstanding = 0
        self.port = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._healthy = False
        self._retired = False
        self._launch = launch
        self._client = client
        self._on_line = on_line
        self._processes = processes
        self._process: ContainerProcess | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def in_service(self) -> bool:
        """Whether the instance takes requests."""
        return self._healthy and not self._retired

    @property
    def pid(self) -> int | None:
        """The process id (also its process group) while a process runs."""
        return self._process.pid if self._process and self._process.exit_status is None else None

    @property
    def url(self) -> str:
        """Base address of the container."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start the process and return when it is in service; raises InstanceStartError when it never is."""
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                process = await self._launch_once()
                break
            except (InstanceStartError, asyncio.CancelledError) as failure:
                await self._end_process()
                if attempt == START_ATTEMPTS or not isinstance(failure, PortTakenError):
                    raise
        self._watch = asyncio.create_task(self._keep_alive(process), name=f"sagemaker-watch-{self.id}")

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

    def begin_request(self) -> None:
        """A request begins."""
        self.outstanding += 1
        self._idle.clear()

    def end_request(self) -> None:
        """A request has ended."""
        self.outstanding -= 1
        if self.outstanding == 0:
            self._idle.set()

    async def drained(self, limit: float) -> None:
        """Return when no request is in flight, at the latest after `limit` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), limit)

    def kill(self) -> bool:
        """End the process as a crash does, for a rehearsal; it is then replaced. Whether there was one."""
        return self._process is not None and self._process.kill()

    def mark_unreachable(self) -> None:
        """A request could not reach the container: no more requests until it answers a ping again."""
        self._healthy = False

    async def _launch_once(self) -> ContainerProcess:
        self.port = _free_port()
        process = self._process = await ContainerProcess.start(
            self._launch.program,
            {**self._launch.environment(), ENV_SAGEMAKER_PORT: str(self.port)},
            purpose=f"SageMaker instance {self.id}",
            on_line=self._on_line,
            processes=self._processes,
        )
        await self._await_first_ping(process)
        if self._initialize_container:
            await self._initialize_container(self)
        self._healthy = True
        return process

    async def _await_first_ping(self, process: ContainerProcess) -> None:
        deadline = time.monotonic() + self._launch.startup_timeout
        while time.monotonic() < deadline:
            if await self._ping():
                return
            if await process.ended_within(PING_SECONDS):
                await process.read_to_end()
                kind = InstanceStartError if _port_is_free(self.port) else PortTakenError
                raise kind(
                    f"{self._launch.label} stopped with exit status {process.exit_status} before it passed "
                    f"the ping health check. Last log lines: {process.last_lines()}"
                )
        raise InstanceStartError(
            f"{self._launch.label} did not pass the ping health check. Please check CloudWatch logs for "
            f"this endpoint. Last log lines: {process.last_lines()}"
        )

    async def _keep_alive(self, process: ContainerProcess) -> None:
        """Watch the process until cancelled: replace it when it ends or stays silent."""
        restarts = 0
        while True:
            since = time.monotonic()
            await self._wait_until_unhealthy(process)
            self._healthy = False
            if time.monotonic() - since > STABLE_SECONDS:
                restarts = 0
            while not self._healthy:
                quick = restarts < len(RESTART_DELAYS)
                await self._end_process()
                await asyncio.sleep(RESTART_DELAYS[restarts] if quick else RESTART_SLOW_SECONDS)
                restarts += 1
                try:
                    process = await self._launch_once()
                except (InstanceStartError, OSError) as failure:
                    log.warning("instance %s: restart %d failed: %s", self.id, restarts, failure)

    async def _wait_until_unhealthy(self, process: ContainerProcess) -> None:
        failures = 0
        while failures <= FAILED_PINGS_ALLOWED:
            if await process.ended_within(PING_SECONDS):
                log.warning("instance %s ended with status %s", self.id, process.exit_status)
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
        if self._process:
            await self._process.end()
            self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
