"""Runs inference components: copies as processes, adapters as files in their base.

A component's copy is a container; `placement` says how many instances the copies need. Writes the outcome of
each change into the component's record.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from local.sagemaker.components import adapters
from local.sagemaker.components.placement import Placement, component_key, pool_settings
from local.sagemaker.errors import AwsApiError
from local.sagemaker.execution_role import ExecutionRole, ExecutionRoleError
from local.sagemaker.instances import traffic_shifting
from local.sagemaker.instances.endpoint_deployments import MAX_REASON, ComponentHost, EndpointDeployments
from local.sagemaker.instances.instance import EndpointInstance, InstanceStartError
from local.sagemaker.instances.instance_factory import InstanceFactory
from local.sagemaker.instances.metrics import MetricBuffer
from local.sagemaker.instances.model_data import ModelDataError
from local.sagemaker.instances.pool import VariantPool
from local.sagemaker.records import ComponentDefinition, InferenceComponentRecord
from local.sagemaker.store import SageMakerStore, now

log = logging.getLogger(__name__)

STOP_SECONDS = 15.0
NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress "
    "(if configured) or try to increase the capacity by invoking UpdateInferenceComponentRuntimeConfig API."
)


class InferenceComponents(ComponentHost):
    """The copies of every component, and the task that is changing each of them."""

    def __init__(
        self,
        store: SageMakerStore,
        factory: InstanceFactory,
        deployments: EndpointDeployments,
        metric_buffer: MetricBuffer,
    ) -> None:
        self._store, self._factory = store, factory
        self._deployments, self._metric_buffer = deployments, metric_buffer
        self._placement = Placement(store, deployments)
        self._pools: dict[str, VariantPool] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def create(self, record: InferenceComponentRecord) -> None:
        """Begin to bring a component into service; its record is already `Creating`."""
        self._begin(record, self._create(record))

    def scale(self, record: InferenceComponentRecord, copies: int) -> None:
        """Begin to change the number of copies; the record is already `Updating`."""
        self._begin(record, self._scale(record, copies))

    def update(self, record: InferenceComponentRecord, changed: ComponentDefinition) -> None:
        """Begin to replace the copies by those of a changed record; the record is already `Updating`."""
        self._begin(record, self._update(record, changed))

    def delete(self, record: InferenceComponentRecord) -> None:
        """Begin to end a component; its record goes when its last copy has gone."""
        self._begin(record, self._delete(record))

    def resume(self) -> None:
        """Bring restored components back, bases before adapters."""
        records = list(self._store.components.records.values())
        for record in records:
            if record["InferenceComponentStatus"] == "Deleting":
                self.delete(record)
            elif record["InferenceComponentStatus"] != "Failed":
                record["InferenceComponentStatus"] = "Updating"
                self._begin(record, self._create(record))

    async def wait(self, name: str) -> None:
        """Return when no transition of this component is under way."""
        if task := self._tasks.get(name.lower()):
            await asyncio.wait([task])

    async def stop(self) -> None:
        """End every copy, without waiting for requests. Records stay."""
        for task in self._tasks.values():
            task.cancel()
        stops = [asyncio.create_task(pool.stop(drain=False)) for pool in self._pools.values()]
        if pending := [*self._tasks.values(), *stops]:
            await asyncio.wait(pending, timeout=STOP_SECONDS)

    def pools(self, endpoint: str | None = None) -> list[VariantPool]:
        """The pools of copies, of one endpoint or of all."""
        return [p for p in self._pools.values() if endpoint is None or p.location.endpoint == endpoint]

    def model_folders(self) -> set[Path]:
        """See `ComponentHost`."""
        adapters_of = (record.get("Folder") for record in self._store.components.records.values())
        models = {pool.model_folder for pool in self._pools.values() if pool.model_folder}
        return models | {Path(folder) for folder in adapters_of if folder}

    def instances_replaced(self, endpoint: str) -> None:
        """See `ComponentHost`."""
        for record in self._store.components.records.values():
            if record["EndpointName"] == endpoint:
                self._placement.fit_instances(record)

    def copies(self, record: InferenceComponentRecord) -> int:
        """How many copies a component has now; an adapter has those of its base."""
        pool = self._pools.get(component_key(self._base_of(record)))
        return len(pool.instances) if pool else 0

    def route(self, record: InferenceComponentRecord) -> tuple[VariantPool, dict[str, str]]:
        """Where a request to a component goes, and the headers that name an adapter; raises the runtime's
        error for a component without a copy."""
        base = self._base_of(record)
        pool = self._pools.get(component_key(base))
        if pool is None or not pool.instances:
            for name in {record["InferenceComponentName"], base["InferenceComponentName"]}:
                dimensions = (("InferenceComponentName", name),)
                self._metric_buffer.record_under(dimensions, {"NoCapacityInvocationFailures": 1})
            raise AwsApiError("ValidationError", NO_CAPACITY)
        return pool, {} if base is record else {adapters.HEADER: record["InferenceComponentName"]}

    def _begin(self, record: InferenceComponentRecord, transition: Coroutine[Any, Any, None]) -> None:
        key = component_key(record)
        task = asyncio.create_task(transition, name=f"sagemaker-component-{key}")
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._ended(key, record, done))

    def _ended(self, key: str, record: InferenceComponentRecord, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled() and task.exception():
            log.error("inference component %s: transition failed", key, exc_info=task.exception())
            _set(record, "Failed", f"Internal error: {task.exception()}")

    async def _create(self, record: InferenceComponentRecord) -> None:
        await self._deployments.wait(record["EndpointName"])
        if record["Base"]:
            await self._load_adapter(record)
            return
        try:
            pool = self._pool(record)
            _check(self._placement.capacity_shortage(record, record["CopyCount"]))
            await pool.start()
        except InstanceStartError as failure:
            _set(record, "Failed", str(failure))
            return
        self._pools[component_key(record)] = pool
        self._placement.fit_instances(record)
        _set(record, "InService")

    async def _scale(self, record: InferenceComponentRecord, copies: int) -> None:
        pool, failure = self._pools[component_key(record)], None
        try:
            _check(self._placement.capacity_shortage(record, copies))
            await pool.scale(copies)
            record["CopyCount"] = copies
        except InstanceStartError as error:
            failure = str(error)
        self._placement.fit_instances(record)
        _set(record, "InService", failure)

    async def _update(self, record: InferenceComponentRecord, changed: ComponentDefinition) -> None:
        """Start new copies beside the old ones and switch to them; switch back when an alarm goes off."""
        old, fresh = self._pools[component_key(record)], self._pool(changed)
        deployment, failure = changed.get("LastDeploymentConfig", {}), None
        rollback = deployment.get("AutoRollbackConfiguration", {}).get("Alarms", [])
        alarms = [alarm["AlarmName"] for alarm in rollback]
        seconds = deployment.get("RollingUpdatePolicy", {}).get("WaitIntervalInSeconds", 0)
        factory = self._factory
        role = ExecutionRole(changed["Model"]["ExecutionRoleArn"], factory.cloud, factory.identity)
        try:
            role.describe_alarms(alarms)
            _check(self._placement.capacity_shortage(changed, changed["CopyCount"]))
            await fresh.start()
            self._pools[component_key(record)] = fresh
            if tripped := await traffic_shifting.bake(seconds, alarms, self._factory.cloud):
                failure = traffic_shifting.rollback_reason(tripped)
        except (InstanceStartError, ExecutionRoleError) as error:
            failure = str(error)
        if failure is None:
            record |= {
                "Specification": changed["Specification"],
                "Model": changed["Model"],
                "CopyCount": changed["CopyCount"],
            }
            if "LastDeploymentConfig" in changed:
                record["LastDeploymentConfig"] = changed["LastDeploymentConfig"]
        self._pools[component_key(record)] = fresh if failure is None else old
        self._placement.fit_instances(record)
        _set(record, "InService", failure)
        await (old if failure is None else fresh).stop(drain=True)

    async def _delete(self, record: InferenceComponentRecord) -> None:
        if record["Base"]:
            await self._unload_adapter(record)
        elif pool := self._pools.pop(component_key(record), None):
            await pool.stop(drain=True)
        self._store.components.remove(record["InferenceComponentName"])
        self._store.tags.pop(record["InferenceComponentArn"], None)
        if not record["Base"]:
            self._placement.fit_instances(record)

    def _pool(self, record: ComponentDefinition) -> VariantPool:
        async def initialize_container(instance: EndpointInstance) -> None:
            for adapter in self._adapters_of(record):
                if folder := adapter.get("Folder"):
                    with contextlib.suppress(adapters.AdapterError):  # the base serves without it
                        name = adapter["InferenceComponentName"]
                        await adapters.load(self._factory.client, instance, name, folder)

        return VariantPool(
            self._factory,
            record["EndpointName"],
            pool_settings(record, self._placement.variant(record).settings),
            record["Model"],
            weight=1.0,
            count=record["CopyCount"],
            component=record["InferenceComponentName"],
            initialize_container=initialize_container,
        )

    async def _load_adapter(self, record: InferenceComponentRecord) -> None:
        base = self._base_of(record)
        await self.wait(base["InferenceComponentName"])
        factory, role = self._factory, base["Model"]["ExecutionRoleArn"]
        try:
            source = adapters.adapter_source(record["Specification"])
            credentials = factory.cloud.role_credentials(role)
            folder = await asyncio.to_thread(factory.model_data.fetch, source, role, credentials)
            pool = self._pools.get(component_key(base))
            name = record["InferenceComponentName"]
            for instance in pool.instances if pool else ():
                await adapters.load(factory.client, instance, name, str(folder))
        except (ModelDataError, PermissionError, adapters.AdapterError) as failure:
            _set(record, "Failed", str(failure))
            return
        record["Folder"] = str(folder)
        _set(record, "InService")

    async def _unload_adapter(self, record: InferenceComponentRecord) -> None:
        record.pop("Folder", None)
        pool = self._pools.get(component_key(self._base_of(record)))
        for instance in pool.instances if pool else ():
            with contextlib.suppress(adapters.AdapterError):  # a copy that never had it, or is gone
                await adapters.unload(self._factory.client, instance, record["InferenceComponentName"])

    def _adapters_of(self, base: ComponentDefinition) -> list[InferenceComponentRecord]:
        name = base["InferenceComponentName"]
        return [each for each in self._store.components.records.values() if each["Base"] == name]

    def _base_of(self, record: InferenceComponentRecord) -> InferenceComponentRecord:
        return self._store.components.get(record["Base"]) if record["Base"] else record


def _check(failure: str | None) -> None:
    if failure:
        raise InstanceStartError(failure)


def _set(record: InferenceComponentRecord, status: str, reason: str | None = None) -> None:
    record |= {"InferenceComponentStatus": status, "LastModifiedTime": now()}
    record.pop("FailureReason", None)
    if reason:
        record["FailureReason"] = reason[:MAX_REASON]
