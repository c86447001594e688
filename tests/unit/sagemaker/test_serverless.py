"""Serverless endpoints: asleep without requests, awake with the first, refused beyond their concurrency."""

from __future__ import annotations

import asyncio
import json

import pytest

from local.autoscaling.rules import check_bounds
from local.autoscaling.sagemaker_resources import INSTANCES, READY, SageMakerFleets
from local.sagemaker.errors import ApiError
from local.sagemaker.instances import metrics
from local.sagemaker.instances import serverless as module
from tests.support.sagemaker import Bench, eventually, scenario, serverless, variant


async def serve(bench: Bench, **config: int) -> module.ServerlessPool:
    bench.model("m")
    bench.config("c", serverless(**config))
    assert (await bench.endpoint())["EndpointStatus"] == "InService"
    (pool,) = bench.sagemaker.deployments.live["e"].pools()
    return pool


@scenario
async def test_it_is_described_by_its_memory_and_concurrency(bench: Bench) -> None:
    await serve(bench)
    (champion,) = bench.call("DescribeEndpoint", EndpointName="e")["ProductionVariants"]
    assert champion["CurrentServerlessConfig"] == {"MemorySizeInMB": 1024, "MaxConcurrency": 2}
    assert "CurrentInstanceCount" not in champion


@scenario
async def test_it_sleeps_and_wakes_with_a_cold_start_that_is_measured(bench: Bench) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "IDLE_SECONDS", 0.2)
        pool = await serve(bench)
        await eventually(lambda: not pool.instances, "it falls asleep")
        assert (await bench.settled())["EndpointStatus"] == "InService"
        patch.setattr(module, "IDLE_SECONDS", 60.0)
        assert (await bench.invoke()).status == 200
    assert len(pool.instances) == 1
    bench.sagemaker.meter.flush()
    assert bench.cloud.total("ModelSetupTime", "champion") > 0


@scenario
async def test_provisioned_concurrency_keeps_it_awake(bench: Bench) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "IDLE_SECONDS", 0.1)
        pool = await serve(bench, ProvisionedConcurrency=1)
        await asyncio.sleep(0.5)
        assert len(pool.instances) == 1


@scenario
async def test_beyond_its_concurrency_it_throttles(bench: Bench) -> None:
    pool = await serve(bench)
    slow = [asyncio.create_task(bench.invoke(b'{"sleep": 1}')) for _ in range(2)]
    await eventually(lambda: pool.outstanding == 2, "both are under way")
    refused = await bench.invoke()
    assert refused.status == 400
    assert refused.headers["x-amzn-ErrorType"] == "ThrottlingException"
    assert json.loads(refused.body) == {"Message": "Rate exceeded"}
    assert [(await each).status for each in slow] == [200, 200]
    assert (await bench.invoke()).status == 200


async def resize(bench: Bench, **change: int) -> None:
    wanted = {"VariantName": "champion", "ServerlessUpdateConfig": change}
    bench.call("UpdateEndpointWeightsAndCapacities", EndpointName="e", DesiredWeightsAndCapacities=[wanted])
    assert (await bench.settled())["EndpointStatus"] == "InService"


@scenario
async def test_provisioned_concurrency_is_updated_and_described_and_the_config_stays(bench: Bench) -> None:
    pool = await serve(bench, MaxConcurrency=4, ProvisionedConcurrency=1)
    (process,) = pool.instances

    await resize(bench, ProvisionedConcurrency=3)

    (champion,) = bench.call("DescribeEndpoint", EndpointName="e")["ProductionVariants"]
    assert champion["CurrentServerlessConfig"]["ProvisionedConcurrency"] == 3
    (kept,) = bench.call("DescribeEndpointConfig", EndpointConfigName="c")["ProductionVariants"]
    assert kept["ServerlessConfig"]["ProvisionedConcurrency"] == 1
    assert pool.instances == [process]


@scenario
async def test_more_provisioned_than_greatest_concurrency_is_refused(bench: Bench) -> None:
    await serve(bench, ProvisionedConcurrency=1)
    with pytest.raises(ApiError, match="must not be more than MaxConcurrency"):
        await resize(bench, ProvisionedConcurrency=3)
    await resize(bench, ProvisionedConcurrency=2)


@scenario
async def test_without_provisioned_concurrency_there_is_none_to_update_or_scale(bench: Bench) -> None:
    await serve(bench)
    with pytest.raises(ApiError, match="no provisioned concurrency to update"):
        await resize(bench, ProvisionedConcurrency=1)
    with pytest.raises(ApiError, match="no provisioned concurrency to scale"):
        SageMakerFleets(bench.sagemaker).scalable("endpoint/e/variant/champion", READY)


@scenario
async def test_a_variant_on_machines_takes_no_concurrency(bench: Bench) -> None:
    bench.model("m")
    bench.config("c", variant())
    await bench.endpoint()
    with pytest.raises(ApiError, match="is not serverless"):
        await resize(bench, ProvisionedConcurrency=1)


@scenario
async def test_how_much_of_what_is_ready_is_in_use_is_published(bench: Bench) -> None:
    pool = await serve(bench, ProvisionedConcurrency=2)
    slow = asyncio.create_task(bench.invoke(b'{"sleep": 1}'))
    await eventually(lambda: pool.outstanding == 1, "it is under way")
    metrics.provisioned(bench.sagemaker.meter, [pool])
    assert (await slow).status == 200
    bench.sagemaker.meter.flush()
    assert bench.cloud.total("ServerlessProvisionedConcurrencyUtilization", "champion") == 0.5


@scenario
async def test_auto_scaling_moves_it_within_the_variants_concurrency(bench: Bench) -> None:
    await serve(bench, MaxConcurrency=4, ProvisionedConcurrency=1)
    fleets, what = SageMakerFleets(bench.sagemaker), "endpoint/e/variant/champion"
    scalable = fleets.scalable(what, READY)
    assert scalable == (1, {"EndpointName": "e", "VariantName": "champion"}, 4)
    with pytest.raises(ApiError, match="at most 4"):
        check_bounds(1, 5, scalable)
    check_bounds(1, 4, scalable)

    await fleets.set_capacity(what, READY, 2)

    assert fleets.capacity(what, READY) == 2
    with pytest.raises(ApiError, match="no instance count to scale"):
        fleets.scalable(what, INSTANCES)
