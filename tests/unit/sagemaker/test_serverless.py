"""Serverless endpoints: asleep without requests, awake with the first, refused beyond their concurrency."""

from __future__ import annotations

import asyncio
import json

import pytest

from local.autoscaling.rules import check_bounds
from local.autoscaling.sagemaker_resources import (
    INSTANCE_COUNT,
    PROVISIONED_CONCURRENCY,
    SageMakerScalableResources,
)
from local.sagemaker.errors import AwsApiError
from local.sagemaker.instances import metrics
from local.sagemaker.instances import serverless as serverless_module
from tests.support.sagemaker import SageMakerHarness, eventually, gate, scenario, serverless, variant, waiting


async def serve(harness: SageMakerHarness, **config: int) -> serverless_module.ServerlessPool:
    harness.model("m")
    harness.config("c", serverless(**config))
    assert (await harness.endpoint())["EndpointStatus"] == "InService"
    (pool,) = harness.sagemaker.deployments.live["e"].pools()
    return pool


@scenario
async def test_it_is_described_by_its_memory_and_concurrency(harness: SageMakerHarness) -> None:
    await serve(harness)
    (champion,) = harness.call("DescribeEndpoint", EndpointName="e")["ProductionVariants"]
    assert champion["CurrentServerlessConfig"] == {"MemorySizeInMB": 1024, "MaxConcurrency": 2}
    assert "CurrentInstanceCount" not in champion


@scenario
async def test_it_sleeps_and_wakes_with_a_cold_start_that_is_measured(harness: SageMakerHarness) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serverless_module, "IDLE_SECONDS", 0.2)
        pool = await serve(harness)
        await eventually(lambda: not pool.instances, "it falls asleep")
        assert (await harness.settled())["EndpointStatus"] == "InService"
        patch.setattr(serverless_module, "IDLE_SECONDS", 60.0)
        assert (await harness.invoke()).status == 200
    assert len(pool.instances) == 1
    harness.sagemaker.metric_buffer.flush()
    assert harness.cloud.total("ModelSetupTime", "champion") > 0


@scenario
async def test_provisioned_concurrency_keeps_it_awake(harness: SageMakerHarness) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serverless_module, "IDLE_SECONDS", 0.1)
        pool = await serve(harness, ProvisionedConcurrency=1)
        harness.config("idle", serverless())
        await harness.endpoint("other", "idle")
        (other,) = harness.sagemaker.deployments.live["other"].pools()
        await eventually(lambda: not other.instances, "one without provisioned concurrency ends")
        assert len(pool.instances) == 1


@scenario
async def test_beyond_its_concurrency_it_throttles(harness: SageMakerHarness) -> None:
    pool = await serve(harness)
    with gate() as file:
        slow = [asyncio.create_task(harness.invoke(waiting(file))) for _ in range(2)]
        await eventually(lambda: pool.outstanding == 2, "both are under way")
        refused = await harness.invoke()
        assert refused.status == 400
        assert refused.headers["x-amzn-ErrorType"] == "ThrottlingException"
        assert json.loads(refused.body) == {"Message": "Rate exceeded"}
        file.touch()
        assert [(await each).status for each in slow] == [200, 200]
    assert (await harness.invoke()).status == 200


async def resize(harness: SageMakerHarness, **change: int) -> None:
    wanted = {"VariantName": "champion", "ServerlessUpdateConfig": change}
    harness.call("UpdateEndpointWeightsAndCapacities", EndpointName="e", DesiredWeightsAndCapacities=[wanted])
    assert (await harness.settled())["EndpointStatus"] == "InService"


@scenario
async def test_provisioned_concurrency_is_updated_and_described_and_the_config_stays(
    harness: SageMakerHarness,
) -> None:
    pool = await serve(harness, MaxConcurrency=4, ProvisionedConcurrency=1)
    (process,) = pool.instances

    await resize(harness, ProvisionedConcurrency=3)

    (champion,) = harness.call("DescribeEndpoint", EndpointName="e")["ProductionVariants"]
    assert champion["CurrentServerlessConfig"]["ProvisionedConcurrency"] == 3
    (kept,) = harness.call("DescribeEndpointConfig", EndpointConfigName="c")["ProductionVariants"]
    assert kept["ServerlessConfig"]["ProvisionedConcurrency"] == 1
    assert pool.instances == [process]


@scenario
async def test_more_provisioned_than_greatest_concurrency_is_refused(harness: SageMakerHarness) -> None:
    await serve(harness, ProvisionedConcurrency=1)
    with pytest.raises(AwsApiError, match="must not be more than MaxConcurrency"):
        await resize(harness, ProvisionedConcurrency=3)
    await resize(harness, ProvisionedConcurrency=2)


@scenario
async def test_without_provisioned_concurrency_there_is_none_to_update_or_scale(
    harness: SageMakerHarness,
) -> None:
    await serve(harness)
    with pytest.raises(AwsApiError, match="no provisioned concurrency to update"):
        await resize(harness, ProvisionedConcurrency=1)
    with pytest.raises(AwsApiError, match="no provisioned concurrency to scale"):
        SageMakerScalableResources(harness.sagemaker).scalable(
            "endpoint/e/variant/champion", PROVISIONED_CONCURRENCY
        )


@scenario
async def test_a_variant_on_machines_takes_no_concurrency(harness: SageMakerHarness) -> None:
    harness.model("m")
    harness.config("c", variant())
    await harness.endpoint()
    with pytest.raises(AwsApiError, match="is not serverless"):
        await resize(harness, ProvisionedConcurrency=1)


@scenario
async def test_how_much_of_what_is_ready_is_in_use_is_published(harness: SageMakerHarness) -> None:
    pool = await serve(harness, ProvisionedConcurrency=2)
    with gate() as file:
        slow = asyncio.create_task(harness.invoke(waiting(file)))
        await eventually(lambda: pool.outstanding == 1, "it is under way")
        metrics.record_provisioned_utilization(harness.sagemaker.metric_buffer, [pool])
        file.touch()
        assert (await slow).status == 200
    harness.sagemaker.metric_buffer.flush()
    assert harness.cloud.total("ServerlessProvisionedConcurrencyUtilization", "champion") == 0.5


@scenario
async def test_auto_scaling_moves_it_within_the_variants_concurrency(harness: SageMakerHarness) -> None:
    await serve(harness, MaxConcurrency=4, ProvisionedConcurrency=1)
    resources, what = SageMakerScalableResources(harness.sagemaker), "endpoint/e/variant/champion"
    scalable = resources.scalable(what, PROVISIONED_CONCURRENCY)
    assert scalable == (1, {"EndpointName": "e", "VariantName": "champion"}, 4)
    with pytest.raises(AwsApiError, match="at most 4"):
        check_bounds(1, 5, scalable)
    check_bounds(1, 4, scalable)

    await resources.set_capacity(what, PROVISIONED_CONCURRENCY, 2)

    assert resources.capacity(what, PROVISIONED_CONCURRENCY) == 2
    with pytest.raises(AwsApiError, match="no instance count to scale"):
        resources.scalable(what, INSTANCE_COUNT)
