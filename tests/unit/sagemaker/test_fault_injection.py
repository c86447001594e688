"""Faults on request: what is asked for goes wrong, exactly as often, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.sagemaker.instances import fault_injection
from local.sagemaker.instances.fault_injection import NO_CAPACITY, Fault
from tests.support.sagemaker import SageMakerHarness, eventually, scenario, variant


def post(harness: SageMakerHarness, **fault: Any) -> tuple[int, dict[str, Any]]:
    body = json.dumps(fault).encode()
    return fault_injection.handle_admin_request(
        harness.sagemaker.faults, "POST", fault_injection.PATH, body, harness.sagemaker.kill
    )


async def serve(harness: SageMakerHarness, **more: Any) -> None:
    harness.model("m")
    harness.config("c", variant(**more))
    assert (await harness.endpoint())["EndpointStatus"] == "InService"


@scenario
async def test_one_in_five_requests_fails(harness: SageMakerHarness) -> None:
    await serve(harness)
    status, made = post(harness, kind="errors", endpoint="E", share=0.2, status=503)
    assert status == 201
    replies = [await harness.invoke() for _ in range(10)]
    assert [reply.status for reply in replies].count(424) == 2
    assert json.loads(replies[4].body)["OriginalStatusCode"] == 503
    harness.sagemaker.metric_buffer.flush()
    assert harness.cloud.total("Invocation5XXErrors", "champion") == 2
    path = f"{fault_injection.PATH}/{made['id']}"
    assert (
        fault_injection.handle_admin_request(
            harness.sagemaker.faults, "DELETE", path, b"", harness.sagemaker.kill
        )[0]
        == 200
    )
    assert {(await harness.invoke()).status for _ in range(10)} == {200}


@scenario
async def test_a_killed_instance_comes_back(harness: SageMakerHarness) -> None:
    await serve(harness)
    (instance,) = harness.sagemaker.deployments.live["e"].pools()[0].instances
    before = instance.pid
    assert post(harness, kind="kill", endpoint="e") == (200, {"killed": 1})
    await eventually(lambda: instance.pid not in (before, None) and instance.in_service, "it is replaced")
    assert post(harness, kind="kill", endpoint="other") == (200, {"killed": 0})


@scenario
async def test_a_slow_instance_takes_longer_and_is_measured_so(harness: SageMakerHarness) -> None:
    await serve(harness)
    post(harness, kind="slow", endpoint="e", seconds=0.3, times=1)
    for _ in range(2):
        assert (await harness.invoke()).status == 200
    harness.sagemaker.metric_buffer.flush()
    latencies = [
        value
        for _, datum in harness.cloud.metrics
        if datum["MetricName"] == "ModelLatency"
        for value in datum["Values"]
    ]
    assert max(latencies) >= 300_000
    assert fault_injection.handle_admin_request(
        harness.sagemaker.faults, "GET", fault_injection.PATH, b"", harness.sagemaker.kill
    ) == (
        200,
        {"faults": []},
    )


@scenario
async def test_no_capacity_fails_a_resize_and_what_runs_goes_on(harness: SageMakerHarness) -> None:
    await serve(harness)
    post(harness, kind="no_capacity", endpoint="e")
    harness.call(
        "UpdateEndpointWeightsAndCapacities",
        EndpointName="e",
        DesiredWeightsAndCapacities=[{"VariantName": "champion", "DesiredInstanceCount": 2}],
    )
    described = await harness.settled()
    assert described["EndpointStatus"] == "InService"
    assert described["FailureReason"] == NO_CAPACITY
    (champion,) = described["ProductionVariants"]
    assert (champion["CurrentInstanceCount"], champion["DesiredInstanceCount"]) == (1, 1)
    assert (await harness.invoke()).status == 200


@scenario
async def test_instance_pools_are_tried_in_order(harness: SageMakerHarness) -> None:
    harness.model("m")
    pools = [{"InstanceType": "ml.g5.xlarge", "Priority": 1}, {"InstanceType": "ml.g6.xlarge", "Priority": 2}]
    one = variant(InstancePools=pools)
    del one["InstanceType"]
    harness.config("c", one)
    post(harness, kind="no_capacity", endpoint="e", instance_type="ml.g5.xlarge")
    described = await harness.endpoint()
    assert described["EndpointStatus"] == "InService"
    assert described["ProductionVariants"][0]["InstancePools"] == [
        {"InstanceType": "ml.g5.xlarge", "CurrentInstanceCount": 0},
        {"InstanceType": "ml.g6.xlarge", "CurrentInstanceCount": 1},
    ]
    post(harness, kind="no_capacity", endpoint="f")
    assert (await harness.endpoint("f"))["FailureReason"] == NO_CAPACITY


@scenario
async def test_a_container_that_may_not_start_fails_the_update(harness: SageMakerHarness) -> None:
    await serve(harness)
    harness.model("new")
    harness.config("d", variant(model="new"))
    post(harness, kind="fail_start", endpoint="e", model="new")
    harness.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="d")
    described = await harness.settled()
    assert described["EndpointConfigName"] == "c"
    assert "did not pass the ping health check" in described["FailureReason"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "must be a JSON object"),
        (b"[]", "`kind` must be one of kill, slow"),
        (b'{"kind": "burn"}', "`kind` must be one of"),
        (b'{"kind": "kill", "endpoint": "e", "share": 1}', "has no field `share`"),
        (b'{"kind": "errors", "endpoint": "e", "share": 2}', "`share` must be a number between 0 and 1"),
        (b'{"kind": "errors", "endpoint": "e", "status": true}', "`status` must be a number"),
        (b'{"kind": "errors", "endpoint": 1}', "`endpoint` must be a text"),
        (b'{"kind": "errors"}', "Aim the fault"),
    ],
)
def test_a_fault_that_cannot_be_made_says_why(body: bytes, words: str) -> None:
    def kill(_fault: Fault) -> int:
        raise AssertionError("nothing may be killed")

    status, answer = fault_injection.handle_admin_request(
        fault_injection.FaultInjector(), "POST", fault_injection.PATH, body, kill
    )
    assert status == 400
    assert words in answer["error"]
