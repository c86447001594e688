"""Deploys endpoints: create, update, resize, delete, restore after a restart.

Each transition is one task that starts processes first, moves traffic when they are in service, and only then
ends what is no longer needed, so that no request is lost. It writes the outcome into the endpoint's record.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from local.sagemaker.execution_role import ExecutionRole, ExecutionRoleError
from local.sagemaker.instances import traffic_shifting
from local.sagemaker.instances.fleet import Fleet, LiveEndpoint
from local.sagemaker.instances.instance import InstanceStartError
from local.sagemaker.instances.instance_factory import InstanceFactory
from local.sagemaker.instances.location import InstanceLocation
from local.sagemaker.instances.serverless import ServerlessPool
from local.sagemaker.records import (
    EndpointConfigRecord,
    EndpointRecord,
    JsonObject,
    ModelRecord,
    WeightsAndCapacities,
)
from local.sagemaker.store import SageMakerStore, now

log = logging.getLogger(__name__)

MAX_REASON = 1024
STOP_SECONDS = 15.0


class ComponentHost:
    """What runs on endpoints beside their own containers: nothing, unless a subclass is set."""

    def model_folders(self) -> set[Path]:
        """The fetched models in use, which must not be pruned."""
        return set()

    def instances_replaced(self, endpoint: str) -> None:
        """Called when an endpoint has other instances."""


class EndpointDeployments:
    """All live endpoints, and the task that is changing each of them."""

    component_host = ComponentHost()

    def __init__(self, store: SageMakerStore, factory: InstanceFactory) -> None:
        self.live: dict[str, LiveEndpoint] = {}
        self._store = store
        self._factory = factory
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def create(self, record: EndpointRecord) -> None:
        """Begin to bring a new endpoint into service; its record is already `Creating`."""
        self.live[_key(record)] = LiveEndpoint()
        self._begin(record, self._create(record))

    def update(self, record: EndpointRecord, plan: traffic_shifting.UpdatePlan) -> None:
        """Begin to move an endpoint to the configuration of the plan; its record is already `Updating`."""
        self._begin(record, self._update(record, plan))

    def resize(self, record: EndpointRecord, sizes: WeightsAndCapacities) -> None:
        """Begin to change weights and instance counts; the record is already `Updating`."""
        self._begin(record, self._resize(record, sizes))

    def delete(self, record: EndpointRecord) -> None:
        """Begin to end an endpoint; the record goes when the last process has gone."""
        self._begin(record, self._delete(record))

    def resume(self) -> None:
        """Bring restored endpoints back, each from its stored configuration."""
        for record in list(self._store.endpoints.records.values()):
            self.live[_key(record)] = LiveEndpoint()
            record.pop("Pending", None)  # an update that was cut short has not happened
            status = record["EndpointStatus"]
            if status == "Deleting":
                self._begin(record, self._delete(record))
            elif status != "Failed":
                creating = status == "Creating"
                record["EndpointStatus"] = "Creating" if creating else "SystemUpdating"
                self._begin(record, self._create(record))

    async def wait(self, name: str) -> None:
        """Return when no transition of this endpoint is under way."""
        task = self._tasks.get(name.lower())
        if task:
            await asyncio.wait([task])

    async def stop(self) -> None:
        """End every process, without waiting for requests: the cloud is going down. Records stay."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        fleets = [fleet for live in self.live.values() for fleet in live.fleets()]
        stops = [asyncio.create_task(fleet.stop(drain=False)) for fleet in fleets]
        if tasks or stops:
            await asyncio.wait([*tasks, *stops], timeout=STOP_SECONDS)

    def _begin(self, record: EndpointRecord, transition: Coroutine[Any, Any, None]) -> None:
        key = _key(record)
        self._emit_state_change(record)
        task = asyncio.create_task(transition, name=f"sagemaker-endpoint-{key}")
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._ended(key, record, done))

    def _ended(self, key: str, record: EndpointRecord, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not self._tasks:
            prune = self._factory.model_data.prune
            asyncio.get_running_loop().run_in_executor(None, prune, self._folders_in_use())
        if not task.cancelled() and task.exception():
            log.error("endpoint %s: transition failed", key, exc_info=task.exception())
            self._set_status(record, "Failed", f"Internal error: {task.exception()}")

    async def _create(self, record: EndpointRecord) -> None:
        live = self.live[_key(record)]
        fleet = self._fleet(record, record["Config"], record["Models"], record["Sizes"])
        live.blue = fleet
        try:
            await fleet.start()
        except InstanceStartError as failure:
            live.blue = None
            self._set_status(record, "Failed", str(failure))
            return
        self._set_status(record, "InService")

    async def _update(self, record: EndpointRecord, plan: traffic_shifting.UpdatePlan) -> None:
        live = self.live[_key(record)]
        blue, green = live.serving, self._fleet(record, plan.config, plan.models, plan.sizes)
        record["Pending"] = {"StartTime": now(), "Config": plan.config, "Sizes": plan.sizes}
        live.green, live.green_share = green, 0.0
        failure = await self._shift(live, blue, green, plan)
        if failure is None:
            live.blue, live.green, live.green_share = green, None, 0.0
            record |= {
                "EndpointConfigName": plan.config["EndpointConfigName"],
                "Config": plan.config,
                "Models": plan.models,
                "Sizes": plan.sizes,
                "LastDeploymentConfig": plan.deployment_config,
            }
            self.component_host.instances_replaced(record["EndpointName"])
            await asyncio.sleep(plan.termination_wait)
            await blue.stop(drain=True)
        else:
            self._set_status(record, "RollingBack", failure)
            await self._restore(blue, record["Sizes"])
            live.green, live.green_share = None, 0.0
            await green.stop(drain=True)
            if self._factory.faults.silences_rollback(InstanceLocation(record["EndpointName"], "", "")):
                failure = None
        record.pop("Pending")
        self._set_status(record, "InService", failure)

    async def _shift(
        self, live: LiveEndpoint, blue: Fleet, green: Fleet, plan: traffic_shifting.UpdatePlan
    ) -> str | None:
        """Start green and move traffic to it step by step; the reason to go back, or None when it has all.
        A rolling update starts and ends instances with each step instead of all at the ends."""
        try:
            for role in traffic_shifting.roles(plan):
                ExecutionRole(role, self._factory.cloud, self._factory.identity).describe_alarms(plan.alarms)
            if plan.steps[0].instances is not None:
                green.pools[0].desired_count = plan.steps[0].instances
            await green.start()
            old = blue.pools[0].current_count
            for step in plan.steps:
                if step.instances is not None:
                    await green.pools[0].scale(step.instances)
                live.green_share = step.share
                tripped = await traffic_shifting.bake(step.bake_seconds, plan.alarms, self._factory.cloud)
                if tripped:
                    return traffic_shifting.rollback_reason(tripped)
                if step.instances is not None:
                    await blue.pools[0].scale(round(old * (1 - step.share)))
        except (InstanceStartError, ExecutionRoleError) as error:
            return str(error)
        except Exception as error:
            # Whatever went wrong, the old fleet still serves: go back to it.
            log.exception("endpoint %s: update failed", plan.config["EndpointConfigName"])
            return f"Internal error during the update: {error}"
        return None

    async def _restore(self, blue: Fleet, sizes: WeightsAndCapacities) -> None:
        """Bring the old fleet back to its size before a rolling update."""
        for pool in blue.pools:
            count = sizes[pool.name][1]
            try:
                if pool.current_count < count:
                    await pool.scale(count)
            except InstanceStartError:
                # The remaining instances serve; the endpoint's failure reason names the first failure.
                log.exception("endpoint variant %s: not all instances came back", pool.name)

    async def _resize(self, record: EndpointRecord, sizes: WeightsAndCapacities) -> None:
        fleet = self.live[_key(record)].serving
        variants = {each["VariantName"]: each for each in record["Config"]["ProductionVariants"]}
        failure = None
        try:
            for pool in fleet.pools:
                pool.weight, count = sizes[pool.name]
                if isinstance(pool, ServerlessPool):  # it has no instance count
                    pool.config = dict(variants[pool.name]["ServerlessConfig"])
                elif count != pool.current_count:
                    await pool.scale(count)
            record["Sizes"] = sizes
        except InstanceStartError as error:
            failure = str(error)
            for pool in fleet.pools:
                pool.weight, pool.desired_count = record["Sizes"][pool.name]
        self._set_status(record, "InService", failure)

    async def _delete(self, record: EndpointRecord) -> None:
        live = self.live[_key(record)]
        fleets = list(live.fleets())
        live.blue = live.green = None
        await asyncio.gather(*(fleet.stop(drain=True) for fleet in fleets))
        await asyncio.to_thread(shutil.rmtree, self._factory.scratch / _key(record), ignore_errors=True)
        del self.live[_key(record)]
        self._store.endpoints.remove(record["EndpointName"])
        self._store.tags.pop(record["EndpointArn"], None)

    def _folders_in_use(self) -> set[Path]:
        pools = [pool for live in self.live.values() for fleet in live.fleets() for pool in fleet.pools]
        return {
            pool.model_folder for pool in pools if pool.model_folder
        } | self.component_host.model_folders()

    def _fleet(
        self,
        record: EndpointRecord,
        config: EndpointConfigRecord,
        models: dict[str, ModelRecord],
        sizes: WeightsAndCapacities,
    ) -> Fleet:
        return Fleet(self._factory, record["EndpointName"], config, models, sizes)

    def _set_status(self, record: EndpointRecord, status: str, reason: str | None = None) -> None:
        record["EndpointStatus"] = status
        record["LastModifiedTime"] = now()
        record.pop("FailureReason", None)
        if reason:
            record["FailureReason"] = reason[:MAX_REASON]
        self._emit_state_change(record)

    def _emit_state_change(self, record: EndpointRecord) -> None:
        """Put the endpoint's state on the event bus, which spells a status `IN_SERVICE`."""
        detail: JsonObject = {
            "EndpointName": record["EndpointName"],
            "EndpointArn": record["EndpointArn"],
            "EndpointConfigName": record["EndpointConfigName"],
            "EndpointStatus": re.sub(r"(?<=[a-z])(?=[A-Z])", "_", record["EndpointStatus"]).upper(),
            "CreationTime": int(record["CreationTime"] * 1000),
            "LastModifiedTime": int(record["LastModifiedTime"] * 1000),
        }
        if "FailureReason" in record:
            detail["FailureReason"] = record["FailureReason"]
        try:
            self._factory.cloud.emit_event("SageMaker Endpoint State Change", detail, [record["EndpointArn"]])
        except Exception:
            # A rule on the bus that fails must not stop a deployment.
            log.exception("endpoint %s: its state was not put on the event bus", record["EndpointName"])


def _key(record: EndpointRecord) -> str:
    return record["EndpointName"].lower()
