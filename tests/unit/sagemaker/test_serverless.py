"""Serverless endpoints: asleep without requests, awake with the first, refused beyond their concurrency."""

from __future__ import annotations

import asyncio
import json

import pytest
from sagemaker_world import Bench, eventually, scenario, serverless

from local.sagemaker import serverless as module


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
