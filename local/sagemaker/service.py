"""Composes SageMaker: store, processes, control plane, data plane and their background tasks.

Everything runs on one event loop, so records and routing need no locks. Knows the rest of the cloud only
through `ports.CloudServices`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from local.sagemaker.components.host import InferenceComponents
from local.sagemaker.control_plane.api import ControlPlane
from local.sagemaker.data_plane.async_inference import AsyncInferenceQueue
from local.sagemaker.data_plane.runtime_api import RuntimeApi
from local.sagemaker.execution_role import ExecutionRole
from local.sagemaker.instances import metrics
from local.sagemaker.instances.container_process import ProcessTable
from local.sagemaker.instances.endpoint_deployments import EndpointDeployments
from local.sagemaker.instances.fault_injection import Fault, FaultInjector
from local.sagemaker.instances.images import ProgramTable
from local.sagemaker.instances.instance_factory import InstanceFactory
from local.sagemaker.instances.model_data import ModelDataCache, S3Factory
from local.sagemaker.jobs.runner import JobRunner, JobRunnerSettings
from local.sagemaker.ports import CloudServices
from local.sagemaker.store import Identity, SageMakerStore

log = logging.getLogger(__name__)

LOG_FLUSH_SECONDS = 0.5
MAX_BUFFERED_LINES = 10_000


@dataclass(frozen=True)
class SageMakerSettings:
    """Where SageMaker keeps its files and what it runs."""

    identity: Identity
    folder: Path
    images: ProgramTable
    s3: S3Factory


class SageMakerService:
    """The service. `start` and `stop` must run on the event loop that serves requests."""

    def __init__(self, settings: SageMakerSettings, cloud: CloudServices, processes: ProcessTable) -> None:
        self._cloud = cloud
        self._identity = settings.identity
        self._lines: defaultdict[tuple[str, str, str], list[tuple[int, str]]] = defaultdict(list)
        self._buffered = 0
        self._background: list[asyncio.Task[None]] = []
        self._usage = metrics.UtilizationSampler()
        # Connections are not reused: a container may close an idle one at the very moment it is picked up.
        self._client = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0), trust_env=False
        )
        self.metric_buffer = metrics.MetricBuffer(cloud)
        self.faults = FaultInjector()
        self.store = SageMakerStore(settings.identity)
        factory = InstanceFactory(
            identity=settings.identity,
            cloud=cloud,
            images=settings.images,
            model_data=ModelDataCache(settings.folder / "artefacts", settings.s3, settings.identity.region),
            scratch=settings.folder / "scratch",
            client=self._client,
            log_line=self._log_line,
            processes=processes,
            faults=self.faults,
            record=self.metric_buffer.record,
        )
        self.deployments = EndpointDeployments(self.store, factory)
        self.components = InferenceComponents(self.store, factory, self.deployments, self.metric_buffer)
        self.deployments.component_host = self.components
        self.queue = AsyncInferenceQueue(
            self.store, self.deployments, self._client, self.metric_buffer, cloud, settings.s3
        )
        self.jobs = JobRunner(
            self.store,
            JobRunnerSettings(
                identity=settings.identity,
                cloud=cloud,
                images=settings.images,
                s3=settings.s3,
                folder=settings.folder / "jobs",
                log_line=self._log_line,
                flush_log_lines=self._flush_logs,
                processes=processes,
            ),
        )
        self.control = ControlPlane(self.store, self.deployments, self.components, self.jobs, cloud)
        self.runtime = RuntimeApi(
            self.store, self.deployments, self.components, self.queue, self._client, self.metric_buffer
        )

    async def start(self) -> None:
        """Bring restored endpoints back and begin the background work."""
        self.deployments.resume()
        self.components.resume()
        self.jobs.resume()
        self._background = [
            asyncio.create_task(self.metric_buffer.run(), name="sagemaker-metrics"),
            asyncio.create_task(self._ship_logs(), name="sagemaker-logs"),
            asyncio.create_task(self._measure(), name="sagemaker-utilisation"),
            asyncio.create_task(self.queue.run(), name="sagemaker-async"),
        ]

    async def stop(self) -> None:
        """End every process; records stay."""
        await self.queue.stop()
        await asyncio.gather(self.deployments.stop(), self.components.stop(), self.jobs.stop())
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self.metric_buffer.flush()
        self._flush_logs()
        await self._client.aclose()

    def dump(self) -> dict[str, Any]:
        """The records, as JSON data."""
        return self.store.dump()

    def load(self, data: dict[str, Any]) -> None:
        """Restore records; call before `start`."""
        self.store.load(data)

    def kill(self, fault: Fault) -> int:
        """End instances as a crash does; how many. At most `times` of those that the fault is aimed at."""
        pools = [pool for live in self.deployments.live.values() for pool in live.pools()]
        killed = 0
        for pool in (*pools, *self.components.pools()):
            for instance in pool.instances if fault.matches(pool.location) else ():
                if fault.times is None or killed < fault.times:
                    killed += instance.kill()
        return killed

    def _log_line(self, role_arn: str, group: str, stream: str, line: str) -> None:
        if self._buffered < MAX_BUFFERED_LINES:
            self._buffered += 1
            self._lines[role_arn, group, stream].append((int(time.time() * 1000), line))

    async def _ship_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_FLUSH_SECONDS)
            self._flush_logs()

    def _flush_logs(self) -> None:
        """Store what the containers wrote since the last time; never raises."""
        lines, self._lines = self._lines, defaultdict(list)
        self._buffered = 0
        for (role_arn, group, stream), events in lines.items():
            role = ExecutionRole(role_arn, self._cloud, self._identity)
            try:
                if role.may_write_log(group, stream):
                    self._cloud.put_log_events(group, stream, events)
            except Exception:
                # These lines are lost; the containers and later lines are not.
                log.exception("lines of %s were not stored in %s", stream, group)

    async def _measure(self) -> None:
        """ConcurrentRequestsPerModel every ten seconds; utilisation once a minute or as configured."""
        last: dict[str, float] = {}
        quiet: dict[str, float] = {}
        while True:
            await asyncio.sleep(metrics.CONCURRENCY_SECONDS)
            for key, live in list(self.deployments.live.items()):
                record = self.store.endpoints.find(key)
                if record is None:
                    continue
                name = record["EndpointName"]
                pools = [*live.pools(), *self.components.pools(name)]
                metrics.record_concurrency(self.metric_buffer, pools)
                metrics.record_provisioned_utilization(self.metric_buffer, pools)
                if "AsyncInferenceConfig" in record["Config"]:
                    self.queue.measure(record, pools)
                every = (
                    record["Config"]
                    .get("MetricsConfig", {})
                    .get("MetricPublishFrequencyInSeconds", metrics.DEFAULT_UTILISATION_SECONDS)
                )
                if time.monotonic() - last.get(key, 0.0) >= every:
                    last[key] = time.monotonic()
                    metrics.record_utilization(self.metric_buffer, self._usage, pools)
                if time.monotonic() - quiet.get(key, 0.0) >= metrics.QUIET_SECONDS:
                    quiet[key] = time.monotonic()
                    metrics.record_zero_invocations(self.metric_buffer, pools)
