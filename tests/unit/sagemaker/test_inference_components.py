"""Inference components: copies as processes on an endpoint's instances, to none and back, and adapters."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from local.sagemaker.errors import AwsApiError
from local.sagemaker.instances.fault_injection import Fault
from tests.support.sagemaker import (
    IMAGE,
    ROLE,
    RecordedCloud,
    SageMakerHarness,
    build,
    component,
    eventually,
    host,
    running,
    scenario,
)

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
MANAGED = {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 2}


async def hosting(harness: SageMakerHarness, **variant: Any) -> None:
    """Endpoint `e` for components, on instances of 4 processors and 16 GiB."""
    harness.config("c", host(**variant), ExecutionRoleArn=ROLE)
    assert (await harness.endpoint())["EndpointStatus"] == "InService"


async def ask(harness: SageMakerHarness, name: str, body: bytes = b"{}") -> Any:
    return await harness.invoke(body, X_Amzn_SageMaker_Inference_Component=name)


def copies(described: dict[str, Any]) -> tuple[int, int]:
    runtime = described["RuntimeConfig"]
    return runtime["DesiredCopyCount"], runtime["CurrentCopyCount"]


def instances(harness: SageMakerHarness) -> int:
    (variant,) = harness.call("DescribeEndpoint", EndpointName="e")["ProductionVariants"]
    return int(variant["CurrentInstanceCount"])


@scenario
async def test_a_component_is_created_invoked_described_and_deleted(harness: SageMakerHarness) -> None:
    await hosting(harness)
    harness.call("CreateInferenceComponent", **component("alpha", copies=2))
    arn = f"{ARN}:inference-component/alpha"
    assert harness.call("DescribeInferenceComponent", InferenceComponentName="alpha")[
        "InferenceComponentStatus"
    ] == ("Creating")
    described = await harness.component_settled("alpha")
    assert described["InferenceComponentStatus"] == "InService"
    assert described["InferenceComponentArn"] == arn
    assert described["EndpointArn"] == f"{ARN}:endpoint/e"
    assert copies(described) == (2, 2)
    image = described["Specification"]["Container"]["DeployedImage"]
    assert image == {"SpecifiedImage": IMAGE, "ResolvedImage": IMAGE}
    answers = [json.loads((await ask(harness, "alpha")).body) for _ in range(40)]
    assert {answer["name"] for answer in answers} == {"alpha"}
    assert len({answer["pid"] for answer in answers}) == 2
    listed = harness.call("ListInferenceComponents", EndpointNameEquals="e")["InferenceComponents"]
    assert [each["InferenceComponentName"] for each in listed] == ["alpha"]
    assert harness.call("ListInferenceComponents", EndpointNameEquals="other")["InferenceComponents"] == []

    harness.call("DeleteInferenceComponent", InferenceComponentName="alpha")
    await harness.sagemaker.components.wait("alpha")
    assert harness.call("ListInferenceComponents")["InferenceComponents"] == []
    assert (await ask(harness, "alpha")).status == 400
    harness.call("DeleteEndpoint", EndpointName="e")
    await harness.sagemaker.deployments.wait("e")


@scenario
async def test_a_component_goes_to_zero_and_its_instances_with_it_and_both_come_back(
    harness: SageMakerHarness,
) -> None:
    await hosting(harness, ManagedInstanceScaling=MANAGED)
    await harness.component("alpha", copies=1)
    assert instances(harness) == 1

    async def scaled(count: int) -> tuple[int, int]:
        harness.call(
            "UpdateInferenceComponentRuntimeConfig",
            InferenceComponentName="alpha",
            DesiredRuntimeConfig={"CopyCount": count},
        )
        return copies(await harness.component_settled("alpha"))

    assert await scaled(0) == (0, 0)
    assert instances(harness) == 0
    refused = await ask(harness, "alpha")
    assert refused.status == 400
    assert refused.headers["x-amzn-ErrorType"] == "ValidationError"
    assert json.loads(refused.body)["Message"].startswith("Inference Component has no capacity to process")
    harness.sagemaker.metric_buffer.flush()
    (datum,) = [
        each for _, each in harness.cloud.metrics if each["MetricName"] == "NoCapacityInvocationFailures"
    ]
    assert datum["Dimensions"] == [{"Name": "InferenceComponentName", "Value": "alpha"}]
    assert await scaled(2) == (2, 2)
    assert instances(harness) == 1
    assert (await ask(harness, "alpha")).status == 200


@scenario
async def test_more_copies_than_instances_can_hold_are_refused_and_the_others_serve(
    harness: SageMakerHarness,
) -> None:
    await hosting(harness)
    await harness.component("alpha", copies=1, memory=9000)
    harness.call(
        "UpdateInferenceComponentRuntimeConfig",
        InferenceComponentName="alpha",
        DesiredRuntimeConfig={"CopyCount": 2},
    )
    described = await harness.component_settled("alpha")
    assert described["InferenceComponentStatus"] == "InService"
    assert copies(described) == (1, 1)
    assert "not enough hardware capacity for 2 copies" in described["FailureReason"]
    assert (await ask(harness, "alpha")).status == 200
    failed = await harness.component("beta", memory=9000)
    assert failed["InferenceComponentStatus"] == "Failed"


@scenario
async def test_components_live_on_instance_pools(harness: SageMakerHarness) -> None:
    pools = [
        {"InstanceType": "ml.m5.xlarge", "Priority": 1},
        {"InstanceType": "ml.m6i.xlarge", "Priority": 2},
    ]
    variant = {name: value for name, value in host().items() if name != "InstanceType"}
    harness.config("c", variant | {"InstancePools": pools}, ExecutionRoleArn=ROLE)
    harness.sagemaker.faults.add(Fault("no_capacity", endpoint="e", instance_type="ml.m5.xlarge"))
    assert (await harness.endpoint())["EndpointStatus"] == "InService"
    assert (await harness.component("alpha"))["InferenceComponentStatus"] == "InService"


@scenario
async def test_managed_scaling_adds_the_instances_that_copies_need(harness: SageMakerHarness) -> None:
    await hosting(harness, ManagedInstanceScaling=MANAGED)
    await harness.component("alpha", copies=2, memory=9000)
    assert instances(harness) == 2
    harness.call("DeleteInferenceComponent", InferenceComponentName="alpha")
    await harness.sagemaker.components.wait("alpha")
    assert instances(harness) == 0


@scenario
async def test_an_endpoints_update_keeps_copies_and_the_instances_they_need(
    harness: SageMakerHarness,
) -> None:
    await hosting(harness, ManagedInstanceScaling=MANAGED)
    await harness.component("alpha", copies=2, memory=9000)
    pid = json.loads((await ask(harness, "alpha")).body)["pid"]
    harness.config("d", host(ManagedInstanceScaling=MANAGED | {"MaxInstanceCount": 3}), ExecutionRoleArn=ROLE)
    harness.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="d")
    assert (await harness.settled())["EndpointConfigName"] == "d"
    assert instances(harness) == 2
    pids = {json.loads((await ask(harness, "alpha")).body)["pid"] for _ in range(40)}
    assert pid in pids


@scenario
async def test_an_update_replaces_the_copies_and_a_bad_one_leaves_them(harness: SageMakerHarness) -> None:
    await hosting(harness)
    await harness.component("alpha")
    specification = component("alpha")["Specification"]

    async def updated(**environment: str) -> dict[str, Any]:
        container = {"Image": IMAGE, "Environment": environment}
        harness.call(
            "UpdateInferenceComponent",
            InferenceComponentName="alpha",
            Specification=specification | {"Container": container},
        )
        return await harness.component_settled("alpha")

    assert "FailureReason" not in await updated(FAKE_NAME="second")
    assert json.loads((await ask(harness, "alpha")).body)["name"] == "second"
    described = await updated(FAKE_NAME="third", FAKE_CRASH="1")
    assert described["InferenceComponentStatus"] == "InService"
    assert "the weights are damaged" in described["FailureReason"]
    assert json.loads((await ask(harness, "alpha")).body)["name"] == "second"


@scenario
async def test_metrics_are_per_copy_and_per_component(harness: SageMakerHarness) -> None:
    await hosting(harness)
    await harness.component("alpha", copies=2)
    for _ in range(4):
        assert (await ask(harness, "alpha")).status == 200
    harness.sagemaker.metric_buffer.flush()
    own = [{"Name": "InferenceComponentName", "Value": "alpha"}]
    sums: dict[str, float] = {}
    for _, datum in harness.cloud.metrics:
        if datum["Dimensions"] == own:
            total = sum(v * n for v, n in zip(datum["Values"], datum["Counts"], strict=True))
            sums[datum["MetricName"]] = sums.get(datum["MetricName"], 0.0) + total
    assert sums["InvocationsPerCopy"] == 2.0
    assert sums["Invocations"] == 4.0
    assert harness.cloud.total("Invocations", "all") == 4.0
    assert harness.cloud.total("InvocationsPerInstance", "all") == 0.0


class OneArchive:
    """An S3 that holds one adapter as a tar.gz."""

    def __init__(self) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            info = tarfile.TarInfo("adapter_config.json")
            info.size = 2
            tar.addfile(info, io.BytesIO(b"{}"))
        self.body = buffer.getvalue()

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        return {"ETag": "1", "ContentLength": len(self.body)}

    def get_object(self, Bucket: str, Key: str, Range: str = "") -> dict[str, Any]:
        return {"Body": io.BytesIO(self.body)}

    def download_file(self, _bucket: str, _key: str, path: str) -> None:
        Path(path).write_bytes(self.body)


def adapter(name: str = "lora", base: str = "alpha") -> dict[str, Any]:
    return {
        "InferenceComponentName": name,
        "EndpointName": "e",
        "Specification": {
            "BaseInferenceComponentName": base,
            "Container": {"ArtifactUrl": "s3://b/lora.tar.gz"},
        },
    }


def test_an_adapter_is_loaded_into_every_copy_named_on_calls_and_unloaded(tmp_path: Path) -> None:
    async def drive() -> None:
        cloud = RecordedCloud()
        harness = SageMakerHarness(build(tmp_path, cloud, s3=lambda _: OneArchive()), cloud)
        await harness.sagemaker.start()
        try:
            await hosting(harness)
            await harness.component("alpha")
            harness.call("CreateInferenceComponent", **adapter())
            described = await harness.component_settled("lora")
            assert described["InferenceComponentStatus"] == "InService", described
            assert "RuntimeConfig" not in described
            answer = json.loads((await ask(harness, "lora")).body)
            assert answer["headers"]["x-amzn-sagemaker-adapter-identifier"] == "lora"
            assert (Path(answer["adapters"]["lora"]) / "adapter_config.json").read_text() == "{}"
            # A copy that comes later, or anew after a crash, has it too.
            harness.call(
                "UpdateInferenceComponentRuntimeConfig",
                InferenceComponentName="alpha",
                DesiredRuntimeConfig={"CopyCount": 2},
            )
            await harness.component_settled("alpha")
            answers = [json.loads((await ask(harness, "alpha")).body) for _ in range(40)]
            assert len({each["pid"] for each in answers}) == 2
            assert all("lora" in each["adapters"] for each in answers)
            before = {each["pid"] for each in answers}
            (pool,) = harness.sagemaker.components.pools("e")
            pool.instances[0].kill()
            await eventually(lambda: pool.instances[0].pid not in {*before, None}, "it is replaced")
            await eventually(lambda: pool.instances[0].in_service, "it serves")
            answers = [json.loads((await ask(harness, "alpha")).body) for _ in range(40)]
            assert all("lora" in each["adapters"] for each in answers)

            with pytest.raises(AwsApiError, match="it is the base of lora"):
                harness.call("DeleteInferenceComponent", InferenceComponentName="alpha")
            harness.call("DeleteInferenceComponent", InferenceComponentName="lora")
            await harness.sagemaker.components.wait("lora")
            assert json.loads((await ask(harness, "alpha")).body)["adapters"] == {}
        finally:
            await harness.sagemaker.stop()

    asyncio.run(drive())


def test_an_adapter_that_its_base_refuses_fails_and_the_base_serves(tmp_path: Path) -> None:
    async def drive() -> None:
        cloud = RecordedCloud()
        harness = SageMakerHarness(build(tmp_path, cloud, s3=lambda _: OneArchive()), cloud)
        await harness.sagemaker.start()
        try:
            await hosting(harness)
            request = component("alpha")
            request["Specification"]["Container"]["Environment"]["FAKE_NO_ADAPTERS"] = "1"
            harness.call("CreateInferenceComponent", **request)
            await harness.component_settled("alpha")
            harness.call("CreateInferenceComponent", **adapter())
            described = await harness.component_settled("lora")
            assert described["InferenceComponentStatus"] == "Failed"
            assert "this base takes no adapters" in described["FailureReason"]
            assert (await ask(harness, "alpha")).status == 200
        finally:
            await harness.sagemaker.stop()

    asyncio.run(drive())


def test_a_restored_component_comes_back(tmp_path: Path) -> None:
    async def first_life() -> dict:
        async with running(tmp_path) as harness:
            await hosting(harness, ManagedInstanceScaling=MANAGED)
            await harness.component("alpha", copies=2)
            return json.loads(json.dumps(harness.sagemaker.dump()))

    async def second_life(state: dict) -> None:
        cloud = RecordedCloud()
        harness = SageMakerHarness(build(tmp_path, cloud), cloud)
        harness.sagemaker.load(state)
        await harness.sagemaker.start()
        try:
            described = await harness.component_settled("alpha")
            assert described["InferenceComponentStatus"] == "InService"
            assert copies(described) == (2, 2)
            assert (await ask(harness, "alpha")).status == 200
        finally:
            await harness.sagemaker.stop()

    asyncio.run(second_life(asyncio.run(first_life())))
