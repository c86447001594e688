"""Asynchronous inference: requests wait in a queue, inputs come from S3, outcomes go to S3 and to SNS.

The queue is part of the endpoint's records, so it survives a restart; what was being worked on is done again.
S3 and SNS are used with the model's execution role.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from local.sagemaker.data_plane.async_results import (
    AsyncInferenceError,
    notification_of,
    read_input,
    write_object,
)
from local.sagemaker.data_plane.container_call import (
    ContainerCall,
    ContainerRequest,
    ContainerUnreachableError,
)
from local.sagemaker.errors import AwsApiError
from local.sagemaker.instances.endpoint_deployments import EndpointDeployments
from local.sagemaker.instances.location import Dimensions
from local.sagemaker.instances.metrics import MetricBuffer
from local.sagemaker.instances.model_data import S3Factory
from local.sagemaker.instances.pool import VariantPool
from local.sagemaker.ports import CloudServices
from local.sagemaker.records import AsyncRequestRecord, EndpointRecord, JsonObject
from local.sagemaker.store import SageMakerStore, now

log = logging.getLogger(__name__)

DEFAULT_CONCURRENCY = 4
DEFAULT_TTL_SECONDS = 21_600
DEFAULT_TIMEOUT_SECONDS = 900
MAX_WAITING = 10_000
POLL_SECONDS = 0.5
_UNREACHABLE_SECONDS = 1.0


class AsyncInferenceQueue:
    """The queues of all asynchronous endpoints."""

    def __init__(
        self,
        store: SageMakerStore,
        deployments: EndpointDeployments,
        client: httpx.AsyncClient,
        metric_buffer: MetricBuffer,
        cloud: CloudServices,
        s3: S3Factory,
    ) -> None:
        """Make the queues; `run` works on them.

        Args:
            store: Holds the queued requests, so that they survive a restart.
            deployments: The live endpoints.
            client: Sends requests to containers.
            metric_buffer: Gets the metrics of queues and requests.
            cloud: Gives role credentials and publishes notifications.
            s3: Makes an S3 client from a role's credentials.
        """
        self._store, self._deployments, self._metric_buffer = store, deployments, metric_buffer
        self._client, self._cloud, self._s3 = client, cloud, s3
        self._in_progress: dict[str, asyncio.Task[None]] = {}
        self._by_instance: dict[str, int] = {}
        self._wake = asyncio.Event()

    def submit(self, endpoint: EndpointRecord, params: JsonObject, body: bytes) -> JsonObject:
        """Queue a request and answer InferenceId, OutputLocation and FailureLocation; raises AwsApiError."""
        name = endpoint["EndpointName"]
        if ("InputLocation" in params) == bool(body):
            raise _refused("Exactly one of InputLocation and Body must be given.")
        if "InputLocation" in params and not params["InputLocation"].startswith("s3://"):
            raise _refused("InputLocation must be an S3 URI: s3://bucket/key.")
        queue = self._store.async_requests
        if sum(each["EndpointName"] == name for each in queue) >= MAX_WAITING:
            raise AwsApiError("ServiceUnavailable", "The queue of the endpoint is full.", 503)
        output = endpoint["Config"]["AsyncInferenceConfig"]["OutputConfig"]
        item_id, stem = params.get("InferenceId", str(uuid.uuid4())), str(uuid.uuid4())
        extension = params.get("S3OutputPathExtension", "").strip("/")
        file = params.get("Filename") or stem
        item: AsyncRequestRecord = {
            "Id": stem,
            "InferenceId": item_id,
            "EndpointName": name,
            "Params": params,
            "Body": base64.b64encode(body).decode() if body else None,
            "Received": now(),
        }

        def location(path: str, suffix: str) -> str:
            return "/".join(filter(None, (output[path].rstrip("/"), extension, file + suffix)))

        if "S3OutputPath" in output:
            item["OutputLocation"] = location("S3OutputPath", ".out")
        if "S3FailurePath" in output:
            item["FailureLocation"] = location("S3FailurePath", "-error.out")
        queue.append(item)
        self._wake.set()
        answer: JsonObject = {"InferenceId": item_id}
        if "OutputLocation" in item:
            answer["OutputLocation"] = item["OutputLocation"]
        if "FailureLocation" in item:
            answer["FailureLocation"] = item["FailureLocation"]
        return answer

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                self._start_ready_requests()
            except Exception:
                # A pass that fails must not end the queue.
                log.exception("asynchronous requests could not be begun this time")
            self._wake.clear()
            try:
                # Nothing to do costs nothing; a queue that waits for capacity is looked at now and then.
                await asyncio.wait_for(
                    self._wake.wait(), POLL_SECONDS if self._store.async_requests else None
                )
            except TimeoutError:
                continue

    async def stop(self) -> None:
        """Leave what is under way; it stays in the queue."""
        for task in self._in_progress.values():
            task.cancel()
        await asyncio.gather(*self._in_progress.values(), return_exceptions=True)

    def measure(self, endpoint: EndpointRecord, pools: Iterable[VariantPool]) -> None:
        """Record the backlog's metrics of one asynchronous endpoint."""
        waiting = [
            each for each in self._store.async_requests if each["EndpointName"] == endpoint["EndpointName"]
        ]
        instances = sum(len(pool.instances) for pool in pools)
        oldest = min((each["Received"] for each in waiting), default=None)
        values = {
            "ApproximateBacklogSize": float(len(waiting)),
            "HasBacklogWithoutCapacity": float(bool(waiting) and not instances),
            "ApproximateAgeOfOldestRequest": 0.0 if oldest is None else time.time() - oldest,
        }
        if instances:
            values["ApproximateBacklogSizePerInstance"] = len(waiting) / instances
        self._metric_buffer.record_under(_endpoint(endpoint["EndpointName"]), values)

    def _start_ready_requests(self) -> None:
        for item in list(self._store.async_requests):
            if item["Id"] in self._in_progress:
                continue
            endpoint = self._store.endpoints.find(item["EndpointName"])
            if endpoint is None:
                self._store.async_requests.remove(item)
                continue
            ttl = item["Params"].get("RequestTTLSeconds", DEFAULT_TTL_SECONDS)
            expired = time.time() - item["Received"] > ttl
            live = self._deployments.live.get(item["EndpointName"].lower())
            pool = None
            if not expired:
                if live is None or live.blue is None:
                    continue
                try:
                    _, pool = live.route(None)
                except AwsApiError:
                    continue
                limit = (
                    endpoint["Config"]["AsyncInferenceConfig"]
                    .get("ClientConfig", {})
                    .get("MaxConcurrentInvocationsPerInstance", DEFAULT_CONCURRENCY)
                )
                ready = sum(instance.in_service for instance in pool.instances)
                if self._by_instance.get(item["EndpointName"], 0) >= limit * ready:
                    continue
            self._by_instance[item["EndpointName"]] = self._by_instance.get(item["EndpointName"], 0) + 1
            task = asyncio.create_task(self._work(item, endpoint, pool), name=f"sagemaker-async-{item['Id']}")
            self._in_progress[item["Id"]] = task
            task.add_done_callback(functools.partial(self._ended, item))

    def _ended(self, item: AsyncRequestRecord, task: asyncio.Task[None]) -> None:
        del self._in_progress[item["Id"]]
        self._by_instance[item["EndpointName"]] -= 1
        if not task.cancelled():
            if task.exception():
                log.error("asynchronous request %s failed", item["Id"], exc_info=task.exception())
            self._store.async_requests.remove(item)
        self._wake.set()

    async def _work(
        self, item: AsyncRequestRecord, endpoint: EndpointRecord, pool: VariantPool | None
    ) -> None:
        """One request from input to notification. `pool` is None for a request that has waited too long."""
        began, dimensions = time.time(), _endpoint(item["EndpointName"])
        role = next(iter(endpoint["Models"].values()))["ExecutionRoleArn"]
        try:
            if pool is None:
                self._metric_buffer.record_under(dimensions, {"ExpiredRequests": 1})
                raise AsyncInferenceError("The request waited longer than its RequestTTLSeconds.")
            self._metric_buffer.record(
                pool.location, {"TimeInBacklog": _milliseconds(began - item["Received"])}
            )
            body = await self._with_s3(role, lambda s3: read_input(s3, item))
            answer, content_type = await self._infer(item, pool, body)
            await self._with_s3(
                role, lambda s3: write_object(s3, item["OutputLocation"], answer, content_type)
            )
        except AsyncInferenceError as failure:
            await self._notify(item, endpoint, role, failure=str(failure))
            self._metric_buffer.record_under(dimensions, {"InvocationFailures": 1})
            return
        self._metric_buffer.record_under(dimensions, {"InvocationsProcessed": 1})
        self._metric_buffer.record(
            pool.location, {"TotalProcessingTime": _milliseconds(time.time() - item["Received"])}
        )
        await self._notify(item, endpoint, role, content_type=content_type)

    async def _infer(self, item: AsyncRequestRecord, pool: VariantPool, body: bytes) -> tuple[bytes, str]:
        params = item["Params"]
        seconds = float(params.get("InvocationTimeoutSeconds", DEFAULT_TIMEOUT_SECONDS))
        headers = {"Content-Type": params.get("ContentType", "application/octet-stream")}
        headers |= {
            "Accept": params.get("Accept", "*/*"),
            "X-Amzn-SageMaker-Inference-Id": item["InferenceId"],
        }
        if "CustomAttributes" in params:
            headers["X-Amzn-SageMaker-Custom-Attributes"] = params["CustomAttributes"]
        request = ContainerRequest(item["EndpointName"], headers, body, False, seconds)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            instance = pool.pick()
            if instance is None:
                await asyncio.sleep(_UNREACHABLE_SECONDS)
                continue
            call = ContainerCall(
                self._client,
                self._metric_buffer,
                self._store.identity,
                pool,
                instance,
                request,
                time.perf_counter(),
            )
            try:
                await call.open()
                answer = await call.read_whole()
            except ContainerUnreachableError:
                continue
            except AwsApiError as error:
                raise AsyncInferenceError(error.message) from error
            if not 200 <= call.status < 300:
                raise AsyncInferenceError(
                    call.model_error(call.status, answer.decode(errors="replace")).message
                )
            return answer, call.header("Content-Type") or "application/octet-stream"
        raise AsyncInferenceError("No instance took the request in time.")

    async def _with_s3(self, role: str, work: Callable[[Any], bytes]) -> bytes:
        try:
            credentials = self._cloud.role_credentials(role)
            return await asyncio.to_thread(lambda: work(self._s3(credentials)))
        except PermissionError as error:
            raise AsyncInferenceError(str(error)) from error
        except (ClientError, BotoCoreError) as error:
            raise AsyncInferenceError(f"S3 could not be used with the role {role}: {error}") from error

    async def _notify(
        self,
        item: AsyncRequestRecord,
        endpoint: EndpointRecord,
        role: str,
        *,
        failure: str = "",
        content_type: str = "",
    ) -> None:
        """Leave the failure file, and notify the topic of the outcome."""
        if failure and "FailureLocation" in item:
            text = failure.encode()
            try:
                await self._with_s3(
                    role, lambda s3: write_object(s3, item["FailureLocation"], text, "text/plain")
                )
            except AsyncInferenceError as error:
                log.warning("no failure file was written for %s: %s", item["Id"], error)
        output = endpoint["Config"]["AsyncInferenceConfig"]["OutputConfig"]
        topic = output.get("NotificationConfig", {}).get("ErrorTopic" if failure else "SuccessTopic")
        if not topic:
            return
        message = json.dumps(notification_of(item, self._store.identity.region, failure, content_type))
        try:
            credentials = self._cloud.role_credentials(role)
            await asyncio.to_thread(self._cloud.publish, credentials, topic, message)
        except (PermissionError, ClientError, BotoCoreError):
            log.warning("the topic %s was not notified of %s", topic, item["Id"], exc_info=True)
            self._metric_buffer.record_under(_endpoint(item["EndpointName"]), {"NotificationFailure": 1})


def _endpoint(name: str) -> Dimensions:
    return (("EndpointName", name),)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000)


def _refused(message: str) -> AwsApiError:
    return AwsApiError("ValidationError", message)
