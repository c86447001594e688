"""Inference components: copies as processes on an endpoint's instances, to none and back, and adapters."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from local.sagemaker.errors import ApiError
from local.sagemaker.instances.fault_injection import Fault
from tests.support.sagemaker import (
    IMAGE,
    ROLE,
    Bench,
    RecordedCloud,
    build,
    component,
    eventually,
    host,
    running,
    scenario,
)

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
MANAGED = {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 2}


async def hosting(bench: Bench, **variant: Any) -> None:
    """Endpoint `e` for components, on instances of 4 processors and 16 GiB."""
    bench.config("c", host(**variant), ExecutionRoleArn=ROLE)
    assert (await bench.endpoint())["EndpointStatus"] == "InService"


async def ask(bench: Bench, name: str, body: bytes = b"{}") -> Any:
    return await bench.invoke(body, X_Amzn_SageMaker_Inference_Component=name)


def copies(described: dict[str, Any]) -> tuple[int, int]:
    runtime = described["RuntimeConfig"]
    return runtime["DesiredCopyCount"], runtime["CurrentCopyCount"]


def instances(bench: Bench) -> int:
    (variant,) = bench.call("DescribeEndpoint", EndpointName="e")["ProductionVariants"]
    return int(variant["CurrentInstanceCount"])


@scenario
async def test_a_component_is_created_invoked_described_and_deleted(bench: Bench) -> None:
    await hosting(bench)
    bench.call("CreateInferenceComponent", **component("alpha", copies=2))
    arn = f"{ARN}:inference-component/alpha"
    assert bench.call("DescribeInferenceComponent", InferenceComponentName="alpha")[
        "InferenceComponentStatus"
    ] == ("Creating")
    described = await bench.component_settled("alpha")
    assert described["InferenceComponentStatus"] == "InService"
    assert described["InferenceComponentArn"] == arn
    assert described["EndpointArn"] == f"{ARN}:endpoint/e"
    assert copies(described) == (2, 2)
    image = described["Specification"]["Container"]["DeployedImage"]
    assert image == {"SpecifiedImage": IMAGE, "ResolvedImage": IMAGE}
    answers = [json.loads((await ask(bench, "alpha")).body) for _ in range(40)]
    assert {answer["name"] for answer in answers} == {"alpha"}
    assert len({answer["pid"] for answer in answers}) == 2
    listed = bench.call("ListInferenceComponents", EndpointNameEquals="e")["InferenceComponents"]
    assert [each["InferenceComponentName"] for each in listed] == ["alpha"]
    assert bench.call("ListInferenceComponents", EndpointNameEquals="other")["InferenceComponents"] == []

    bench.call("DeleteInferenceComponent", InferenceComponentName="alpha")
    await bench.sagemaker.components.wait("alpha")
    assert bench.call("ListInferenceComponents")["InferenceComponents"] == []
    assert (await ask(bench, "alpha")).status == 400
    bench.call("DeleteEndpoint", EndpointName="e")
    await bench.sagemaker.deployments.wait("e")


@scenario
async def test_a_component_goes_to_zero_and_its_instances_with_it_and_both_come_back(bench: Bench) -> None:
    await hosting(bench, ManagedInstanceScaling=MANAGED)
    await bench.component("alpha", copies=1)
    assert instances(bench) == 1

    async def scaled(count: int) -> tuple[int, int]:
        bench.call(
            "UpdateInferenceComponentRuntimeConfig",
            InferenceComponentName="alpha",
            DesiredRuntimeConfig={"CopyCount": count},
        )
        return copies(await bench.component_settled("alpha"))

    assert await scaled(0) == (0, 0)
    assert instances(bench) == 0
    refused = await ask(bench, "alpha")
    assert refused.status == 400
    assert refused.headers["x-amzn-ErrorType"] == "ValidationError"
    assert json.loads(refused.body)["Message"].startswith("Inference Component has no capacity to process")
    bench.sagemaker.meter.flush()
    (datum,) = [
        each for _, each in bench.cloud.metrics if each["MetricName"] == "NoCapacityInvocationFailures"
    ]
    assert datum["Dimensions"] == [{"Name": "InferenceComponentName", "Value": "alpha"}]
    assert await scaled(2) == (2, 2)
    assert instances(bench) == 1
    assert (await ask(bench, "alpha")).status == 200


@scenario
async def test_more_copies_than_instances_can_hold_are_refused_and_the_others_serve(bench: Bench) -> None:
    await hosting(bench)
    await bench.component("alpha", copies=1, memory=9000)
    bench.call(
        "UpdateInferenceComponentRuntimeConfig",
        InferenceComponentName="alpha",
        DesiredRuntimeConfig={"CopyCount": 2},
    )
    described = await bench.component_settled("alpha")
    assert described["InferenceComponentStatus"] == "InService"
    assert copies(described) == (1, 1)
    assert "not enough hardware capacity for 2 copies" in described["FailureReason"]
    assert (await ask(bench, "alpha")).status == 200
    failed = await bench.component("beta", memory=9000)
    assert failed["InferenceComponentStatus"] == "Failed"


@scenario
async def test_components_live_on_instance_pools(bench: Bench) -> None:
    pools = [
        {"InstanceType": "ml.m5.xlarge", "Priority": 1},
        {"InstanceType": "ml.m6i.xlarge", "Priority": 2},
    ]
    variant = {name: value for name, value in host().items() if name != "InstanceType"}
    bench.config("c", variant | {"InstancePools": pools}, ExecutionRoleArn=ROLE)
    bench.sagemaker.faults.add(Fault("no_capacity", endpoint="e", instance_type="ml.m5.xlarge"))
    assert (await bench.endpoint())["EndpointStatus"] == "InService"
    assert (await bench.component("alpha"))["InferenceComponentStatus"] == "InService"


@scenario
async def test_managed_scaling_adds_the_instances_that_copies_need(bench: Bench) -> None:
    await hosting(bench, ManagedInstanceScaling=MANAGED)
    await bench.component("alpha", copies=2, memory=9000)
    assert instances(bench) == 2
    bench.call("DeleteInferenceComponent", InferenceComponentName="alpha")
    await bench.sagemaker.components.wait("alpha")
    assert instances(bench) == 0


@scenario
async def test_an_endpoints_update_keeps_copies_and_the_instances_they_need(bench: Bench) -> None:
    await hosting(bench, ManagedInstanceScaling=MANAGED)
    await bench.component("alpha", copies=2, memory=9000)
    pid = json.loads((await ask(bench, "alpha")).body)["pid"]
    bench.config("d", host(ManagedInstanceScaling=MANAGED | {"MaxInstanceCount": 3}), ExecutionRoleArn=ROLE)
    bench.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="d")
    assert (await bench.settled())["EndpointConfigName"] == "d"
    assert instances(bench) == 2
    pids = {json.loads((await ask(bench, "alpha")).body)["pid"] for _ in range(40)}
    assert pid in pids


@scenario
async def test_an_update_replaces_the_copies_and_a_bad_one_leaves_them(bench: Bench) -> None:
    await hosting(bench)
    await bench.component("alpha")
    specification = component("alpha")["Specification"]

    async def updated(**environment: str) -> dict[str, Any]:
        container = {"Image": IMAGE, "Environment": environment}
        bench.call(
            "UpdateInferenceComponent",
            InferenceComponentName="alpha",
            Specification=specification | {"Container": container},
        )
        return await bench.component_settled("alpha")

    assert "FailureReason" not in await updated(FAKE_NAME="second")
    assert json.loads((await ask(bench, "alpha")).body)["name"] == "second"
    described = await updated(FAKE_NAME="third", FAKE_CRASH="1")
    assert described["InferenceComponentStatus"] == "InService"
    assert "the weights are damaged" in described["FailureReason"]
    assert json.loads((await ask(bench, "alpha")).body)["name"] == "second"


@scenario
async def test_metrics_are_per_copy_and_per_component(bench: Bench) -> None:
    await hosting(bench)
    await bench.component("alpha", copies=2)
    for _ in range(4):
        assert (await ask(bench, "alpha")).status == 200
    bench.sagemaker.meter.flush()
    own = [{"Name": "InferenceComponentName", "Value": "alpha"}]
    sums: dict[str, float] = {}
    for _, datum in bench.cloud.metrics:
        if datum["Dimensions"] == own:
            total = sum(v * n for v, n in zip(datum["Values"], datum["Counts"], strict=True))
            sums[datum["MetricName"]] = sums.get(datum["MetricName"], 0.0) + total
    assert sums["InvocationsPerCopy"] == 2.0
    assert sums["Invocations"] == 4.0
    assert bench.cloud.total("Invocations", "all") == 4.0
    assert bench.cloud.total("InvocationsPerInstance", "all") == 0.0


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
        bench = Bench(build(tmp_path, cloud, s3=lambda _: OneArchive()), cloud)
        await bench.sagemaker.start()
        try:
            await hosting(bench)
            await bench.component("alpha")
            bench.call("CreateInferenceComponent", **adapter())
            described = await bench.component_settled("lora")
            assert described["InferenceComponentStatus"] == "InService", described
            assert "RuntimeConfig" not in described
            answer = json.loads((await ask(bench, "lora")).body)
            assert answer["headers"]["x-amzn-sagemaker-adapter-identifier"] == "lora"
            assert (Path(answer["adapters"]["lora"]) / "adapter_config.json").read_text() == "{}"
            # A copy that comes later, or anew after a crash, has it too.
            bench.call(
                "UpdateInferenceComponentRuntimeConfig",
                InferenceComponentName="alpha",
                DesiredRuntimeConfig={"CopyCount": 2},
            )
            await bench.component_settled("alpha")
            answers = [json.loads((await ask(bench, "alpha")).body) for _ in range(40)]
            assert len({each["pid"] for each in answers}) == 2
            assert all("lora" in each["adapters"] for each in answers)
            before = {each["pid"] for each in answers}
            (pool,) = bench.sagemaker.components.pools("e")
            pool.instances[0].kill()
            await eventually(lambda: pool.instances[0].pid not in {*before, None}, "it is replaced")
            await eventually(lambda: pool.instances[0].in_service, "it serves")
            answers = [json.loads((await ask(bench, "alpha")).body) for _ in range(40)]
            assert all("lora" in each["adapters"] for each in answers)

            with pytest.raises(ApiError, match="it is the base of lora"):
                bench.call("DeleteInferenceComponent", InferenceComponentName="alpha")
            bench.call("DeleteInferenceComponent", InferenceComponentName="lora")
            await bench.sagemaker.components.wait("lora")
            assert json.loads((await ask(bench, "alpha")).body)["adapters"] == {}
        finally:
            await bench.sagemaker.stop()

    asyncio.run(drive())


def test_an_adapter_that_its_base_refuses_fails_and_the_base_serves(tmp_path: Path) -> None:
    async def drive() -> None:
        cloud = RecordedCloud()
        bench = Bench(build(tmp_path, cloud, s3=lambda _: OneArchive()), cloud)
        await bench.sagemaker.start()
        try:
            await hosting(bench)
            request = component("alpha")
            request["Specification"]["Container"]["Environment"]["FAKE_NO_ADAPTERS"] = "1"
            bench.call("CreateInferenceComponent", **request)
            await bench.component_settled("alpha")
            bench.call("CreateInferenceComponent", **adapter())
            described = await bench.component_settled("lora")
            assert described["InferenceComponentStatus"] == "Failed"
            assert "this base takes no adapters" in described["FailureReason"]
            assert (await ask(bench, "alpha")).status == 200
        finally:
            await bench.sagemaker.stop()

    asyncio.run(drive())


def test_a_restored_component_comes_back(tmp_path: Path) -> None:
    async def first_life() -> dict:
        async with running(tmp_path) as bench:
            await hosting(bench, ManagedInstanceScaling=MANAGED)
            await bench.component("alpha", copies=2)
            return json.loads(json.dumps(bench.sagemaker.dump()))

    async def second_life(state: dict) -> None:
        cloud = RecordedCloud()
        bench = Bench(build(tmp_path, cloud), cloud)
        bench.sagemaker.load(state)
        await bench.sagemaker.start()
        try:
            described = await bench.component_settled("alpha")
            assert described["InferenceComponentStatus"] == "InService"
            assert copies(described) == (2, 2)
            assert (await ask(bench, "alpha")).status == 200
        finally:
            await bench.sagemaker.stop()

    asyncio.run(second_life(asyncio.run(first_life())))
