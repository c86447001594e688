"""SageMaker in one process: its containers are fakes, the other services are lists."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.eventstream import EventStreamBuffer

from local.sagemaker.instances.images import Program, ProgramTable
from local.sagemaker.ports import RoleCredentials
from local.sagemaker.service import SageMakerService, SageMakerSettings
from local.sagemaker.store import Identity

HERE = Path(__file__).parent
IDENTITY = Identity("123456789012", "us-east-1")
ROLE = "arn:aws:iam::123456789012:role/execution"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/fake:1"
TIMEOUT_SECONDS = 180.0  # only for what never comes


class UnrecordedProcesses:
    """A table of processes that records none: the tests end what they start."""

    def record(self, pid: int, purpose: str) -> None:
        pass

    def forget(self, pid: int) -> None:
        pass


@dataclass
class RecordedCloud:
    """The rest of the cloud: remembers what SageMaker tells it."""

    endpoint_url: str = "http://127.0.0.1:1"
    metrics: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    lines: list[tuple[str, str, str]] = field(default_factory=list)
    events: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    trusted: set[str] = field(default_factory=lambda: {ROLE})
    in_alarm: set[str] = field(default_factory=set)
    published: list[tuple[str, str]] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    log_groups: set[str] | None = None  # None for any
    event_seconds: float = 0.0

    def put_metric_data(self, namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
        self.metrics += [(namespace, datum) for datum in data]

    def put_log_events(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
        self.lines += [(group, stream, line) for _, line in events]

    def emit_event(self, detail_type: str, detail: Mapping[str, Any], resources: Sequence[str]) -> None:
        time.sleep(self.event_seconds)  # the service calls this on a thread
        self.events.append((detail_type, detail))

    def role_credentials(self, role_arn: str) -> RoleCredentials:
        if role_arn not in self.trusted:
            raise PermissionError(role_arn)
        return RoleCredentials("AKIDROLE", "secret", "token", role_arn)

    def role_allows(self, role_arn: str, action: str, resource: str, context: Mapping[str, str]) -> bool:
        assert role_arn in self.trusted
        self.asked.append((action, resource, dict(context)))
        return action not in self.denied

    def log_group_exists(self, group: str) -> bool:
        return self.log_groups is None or group in self.log_groups

    def publish(self, credentials: RoleCredentials, topic_arn: str, message: str) -> None:
        self.published.append((topic_arn, message))

    async def alarms_in_alarm(self, names: Sequence[str]) -> list[str]:
        return sorted(self.in_alarm & set(names))

    def total(self, metric: str, variant: str) -> float:
        """The sum of a metric's published values for a variant."""
        return sum(
            value * count
            for _, datum in self.metrics
            if datum["MetricName"] == metric
            and {"Name": "VariantName", "Value": variant} in datum["Dimensions"]
            for value, count in zip(datum["Values"], datum["Counts"], strict=True)
        )


def no_s3(_credentials: RoleCredentials) -> Any:
    """For models without model data."""
    raise AssertionError("this model brings no data, so nothing should be fetched")


def build(
    folder: Path, cloud: RecordedCloud, s3: Callable[[RoleCredentials], Any] = no_s3
) -> SageMakerService:
    """A service whose only image runs the fake container."""
    program = Program((sys.executable, str(HERE / "sagemaker_container.py")), HERE)
    settings = SageMakerSettings(IDENTITY, folder, ProgramTable({"fake": program}), s3)
    return SageMakerService(settings, cloud, UnrecordedProcesses())


@asynccontextmanager
async def running(folder: Path, cloud: RecordedCloud | None = None) -> AsyncIterator[SageMakerHarness]:
    """A started service that is stopped at the end."""
    cloud = cloud or RecordedCloud()
    harness = SageMakerHarness(build(folder, cloud), cloud)
    await harness.sagemaker.start()
    try:
        yield harness
    finally:
        await harness.sagemaker.stop()


@dataclass
class SageMakerHarness:
    """Short words for what tests do to a service."""

    sagemaker: SageMakerService
    cloud: RecordedCloud

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return self.sagemaker.control.call(operation, request)

    def model(self, name: str, **environment: str) -> None:
        """A model whose fake container gives its own name."""
        self.call(
            "CreateModel",
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Image": IMAGE, "Environment": {"FAKE_NAME": name, **environment}},
        )

    def config(self, name: str, *variants: dict[str, Any], **more: Any) -> None:
        self.call("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=list(variants), **more)

    async def endpoint(self, name: str = "e", config: str = "c", **more: Any) -> dict[str, Any]:
        """Create an endpoint and wait for the outcome."""
        self.call("CreateEndpoint", EndpointName=name, EndpointConfigName=config, **more)
        return await self.settled(name)

    async def component(self, name: str, **more: Any) -> dict[str, Any]:
        """Create an inference component on endpoint `e` and wait for the outcome."""
        self.call("CreateInferenceComponent", **component(name, **more))
        return await self.component_settled(name)

    async def component_settled(self, name: str) -> dict[str, Any]:
        """DescribeInferenceComponent once no transition is under way."""
        await asyncio.wait_for(self.sagemaker.components.wait(name), TIMEOUT_SECONDS)
        return self.call("DescribeInferenceComponent", InferenceComponentName=name)

    async def settled(self, name: str = "e") -> dict[str, Any]:
        """DescribeEndpoint once no transition is under way."""
        await asyncio.wait_for(self.sagemaker.deployments.wait(name), TIMEOUT_SECONDS)
        return self.call("DescribeEndpoint", EndpointName=name)

    async def invoke(
        self, body: bytes = b"{}", endpoint: str = "e", stream: bool = False, **headers: str
    ) -> Any:
        kind = "invocations-response-stream" if stream else "invocations"
        named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        return await self.sagemaker.runtime.handle(f"/endpoints/{endpoint}/{kind}", named, body)


def variant(name: str = "champion", model: str = "m", **more: Any) -> dict[str, Any]:
    """A production variant with sensible defaults."""
    return {
        "VariantName": name,
        "ModelName": model,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    } | more


SERVERLESS = {"MemorySizeInMB": 1024, "MaxConcurrency": 2}


def serverless(name: str = "champion", model: str = "m", **config: Any) -> dict[str, Any]:
    """A serverless variant."""
    return {"VariantName": name, "ModelName": model, "ServerlessConfig": SERVERLESS | config}


def host(count: int = 1, instance_type: str = "ml.m5.xlarge", **more: Any) -> dict[str, Any]:
    """A variant that holds inference components."""
    return {"VariantName": "all", "InstanceType": instance_type, "InitialInstanceCount": count} | more


def component(name: str, copies: int = 1, memory: int = 1024, **more: Any) -> dict[str, Any]:
    """A request for an inference component whose container gives its own name."""
    container = {"Image": IMAGE, "Environment": {"FAKE_NAME": name}}
    needs = {"MinMemoryRequiredInMb": memory, "NumberOfCpuCoresRequired": 1}
    return {
        "InferenceComponentName": name,
        "EndpointName": "e",
        "VariantName": "all",
        "Specification": {"Container": container, "ComputeResourceRequirements": needs},
        "RuntimeConfig": {"CopyCount": copies},
    } | more


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, as `waiting.until` does, without stopping the event loop."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never happened within {TIMEOUT_SECONDS:g} s: {what}"
        await asyncio.sleep(0.02)


@contextmanager
def gate() -> Iterator[Path]:
    """A file that is not there yet. A container that is told to wait for it goes on when it is touched."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "open"


def waiting(file: Path) -> bytes:
    """A request that is answered when a gate's file is there."""
    return json.dumps({"wait_for": str(file)}).encode()


def scenario(test: Callable[[SageMakerHarness], Awaitable[None]]) -> Callable[[Path], None]:
    """Makes a pytest test of a coroutine that takes a running service."""

    def run(tmp_path: Path) -> None:
        async def drive() -> None:
            async with running(tmp_path) as harness:
                await test(harness)

        asyncio.run(drive())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def collect(reply: Any) -> tuple[bytes, list[dict[str, str]]]:
    """A streamed reply decoded by botocore's own parser: the payload, and the headers of every event."""
    buffer, payload, headers = EventStreamBuffer(), b"", []
    async for piece in reply.body:
        buffer.add_data(piece)
        for event in buffer:
            headers.append(event.headers)
            if event.headers[":message-type"] == "event":
                payload += event.payload
    return payload, headers
