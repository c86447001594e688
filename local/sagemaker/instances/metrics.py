"""The metrics that the service publishes about endpoints, under its own names, units and dimensions.

Values are gathered and handed to CloudWatch once a second, so that a request never waits for it.
Source of names: the SageMaker developer guide, "Monitor SageMaker AI with CloudWatch".
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contracts.metrics import SAGEMAKER_HOST_NAMESPACE, SAGEMAKER_NAMESPACE
from local.sagemaker.instances.location import Dimensions, InstanceLocation
from local.sagemaker.instances.pool import VariantPool
from local.sagemaker.instances.serverless import ServerlessPool
from local.sagemaker.ports import CloudServices

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
CONCURRENCY_SECONDS = 10.0
DEFAULT_UTILISATION_SECONDS = 60.0
QUIET_SECONDS = 60.0
MAX_VALUES_PER_DATUM = 150  # PutMetricData's own limit
_UNITS = {
    "ModelLatency": "Microseconds",
    "OverheadLatency": "Microseconds",
    "FirstChunkLatency": "Microseconds",
    "FirstChunkModelLatency": "Microseconds",
    "FirstChunkOverheadLatency": "Microseconds",
    "ModelSetupTime": "Microseconds",
    "CPUUtilization": "Percent",
    "MemoryUtilization": "Percent",
}
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MEMORY_BYTES = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES

_Key = tuple[str, Dimensions, str]  # namespace, dimensions, metric


class MetricBuffer:
    """Gathers values; `flush` publishes what has gathered."""

    def __init__(self, cloud: CloudServices) -> None:
        self._cloud = cloud
        self._values: defaultdict[_Key, Counter[float]] = defaultdict(Counter)

    def record(
        self, location: InstanceLocation, values: dict[str, float], namespace: str = SAGEMAKER_NAMESPACE
    ) -> None:
        """Add one value for each named metric of a location. Latencies are in microseconds."""
        for dimensions, published in location.published(values):
            self.record_under(dimensions, published, namespace)

    def record_under(
        self, dimensions: Dimensions, values: dict[str, float], namespace: str = SAGEMAKER_NAMESPACE
    ) -> None:
        """Add one value for each named metric, under these very dimensions."""
        for metric, value in values.items():
            self._values[namespace, dimensions, metric][float(value)] += 1

    def flush(self) -> None:
        """Publish and forget everything gathered."""
        gathered, self._values = self._values, defaultdict(Counter)
        by_namespace: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for (namespace, dimensions, metric), counts in gathered.items():
            pairs = list(counts.items())
            for start in range(0, len(pairs), MAX_VALUES_PER_DATUM):
                piece = pairs[start : start + MAX_VALUES_PER_DATUM]
                by_namespace[namespace].append(
                    {
                        "MetricName": metric,
                        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions],
                        "Values": [value for value, _ in piece],
                        "Counts": [float(count) for _, count in piece],
                        "Unit": _UNITS.get(metric, "Count"),
                        "Timestamp": time.time(),
                    }
                )
        for namespace, data in by_namespace.items():
            self._cloud.put_metric_data(namespace, data)

    async def run(self) -> None:
        """Publish once a second until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                self.flush()
            except Exception:
                # The emulator's side failed; the next second may do better and requests go on meanwhile.
                log.exception("metrics were not published")


class UtilizationSampler:
    """CPU and memory of a variant's processes. CPU is in percent of one core, so several cores give more
    than 100; memory is in percent of the machine's."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def measure(self, key: str, groups: Iterable[int]) -> dict[str, float]:
        """Utilisation since the last call with this key (0 the first time) of some process groups."""
        cpu_seconds, memory = _usage(set(groups))
        now = time.monotonic()
        before = self._last.get(key, (now, cpu_seconds))
        self._last[key] = (now, cpu_seconds)
        elapsed = now - before[0]
        busy = max(0.0, cpu_seconds - before[1])
        return {
            "CPUUtilization": 100 * busy / elapsed if elapsed > 0 else 0.0,
            "MemoryUtilization": 100 * memory / _MEMORY_BYTES,
        }


def record_concurrency(metric_buffer: MetricBuffer, pools: Iterable[VariantPool]) -> None:
    """Record ConcurrentRequestsPerModel: requests in flight in each container now, queued ones included."""
    for pool in pools:
        for instance in pool.instances:
            metric_buffer.record(pool.location, {"ConcurrentRequestsPerModel": instance.outstanding})


def record_provisioned_utilization(metric_buffer: MetricBuffer, pools: Iterable[VariantPool]) -> None:
    """Record how much of a serverless variant's provisioned concurrency is in use, 0 to 1."""
    for pool in pools:
        ready = pool.config.get("ProvisionedConcurrency") if isinstance(pool, ServerlessPool) else None
        if ready:
            share = min(1.0, pool.outstanding / ready)
            metric_buffer.record(pool.location, {"ServerlessProvisionedConcurrencyUtilization": share})


def record_zero_invocations(metric_buffer: MetricBuffer, pools: Iterable[VariantPool]) -> None:
    """Record a zero beside the invocations, so that a variant without traffic can be scaled in."""
    for pool in pools:
        metric_buffer.record(pool.location, {"InvocationsPerInstance": 0.0})


def record_utilization(
    metric_buffer: MetricBuffer, usage: UtilizationSampler, pools: Iterable[VariantPool]
) -> None:
    """Record CPUUtilization and MemoryUtilization of each place's processes."""
    for pool in pools:
        groups = [instance.pid for instance in pool.instances if instance.pid]
        values = usage.measure(f"{pool.location.endpoint}/{pool.location.folder}", groups)
        metric_buffer.record(pool.location, values, SAGEMAKER_HOST_NAMESPACE)


def _usage(groups: set[int]) -> tuple[float, float]:
    """CPU seconds and resident bytes of all processes in some groups, as /proc tells (zero without it)."""
    ticks = pages = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended while we looked
        if int(fields[2]) in groups:
            ticks += int(fields[11]) + int(fields[12])
            pages += int(fields[21])
    return ticks / _TICKS, pages * _PAGE_BYTES
