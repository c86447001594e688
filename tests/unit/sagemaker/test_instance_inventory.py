"""The list of instances that benches and fault tests aim with."""

from __future__ import annotations

import json

import httpx

from local.sagemaker.control_plane.instance_inventory import instances
from tests.support.sagemaker import SageMakerHarness, scenario, variant


@scenario
async def test_every_instance_is_listed_with_its_process_and_address(harness: SageMakerHarness) -> None:
    harness.model("m")
    harness.config("c", variant("champion"), variant("challenger", InitialInstanceCount=2))
    await harness.endpoint()
    found = instances(harness.sagemaker.store, harness.sagemaker.deployments, harness.sagemaker.components)
    assert sorted(item["variant"] for item in found) == ["challenger", "challenger", "champion"]
    async with httpx.AsyncClient(trust_env=False) as client:
        for item in found:
            reply = await client.post(f"{item['url']}/invocations", content=b"{}", timeout=60)
            assert json.loads(reply.content)["pid"] == item["pid"]
            assert (item["endpoint"], item["healthy"]) == ("e", True)


@scenario
async def test_nothing_is_listed_without_an_endpoint(harness: SageMakerHarness) -> None:
    assert (
        instances(harness.sagemaker.store, harness.sagemaker.deployments, harness.sagemaker.components) == []
    )
