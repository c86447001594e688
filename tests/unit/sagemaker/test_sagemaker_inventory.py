"""The list of instances that benches and fault tests aim with."""

from __future__ import annotations

import json

import httpx

from local.sagemaker.control_plane.instance_inventory import instances
from tests.support.sagemaker import Bench, scenario, variant


@scenario
async def test_every_instance_is_listed_with_its_process_and_address(bench: Bench) -> None:
    bench.model("m")
    bench.config("c", variant("champion"), variant("challenger", InitialInstanceCount=2))
    await bench.endpoint()
    found = instances(bench.sagemaker.store, bench.sagemaker.deployments, bench.sagemaker.components)
    assert sorted(item["variant"] for item in found) == ["challenger", "challenger", "champion"]
    async with httpx.AsyncClient(trust_env=False) as client:
        for item in found:
            reply = await client.post(f"{item['url']}/invocations", content=b"{}", timeout=60)
            assert json.loads(reply.content)["pid"] == item["pid"]
            assert (item["endpoint"], item["healthy"]) == ("e", True)


@scenario
async def test_nothing_is_listed_without_an_endpoint(bench: Bench) -> None:
    assert instances(bench.sagemaker.store, bench.sagemaker.deployments, bench.sagemaker.components) == []
