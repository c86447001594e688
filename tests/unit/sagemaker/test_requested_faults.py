"""Faults on request: what is asked for goes wrong, exactly as often, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.sagemaker.instances import fault_injection as faults
from local.sagemaker.instances.fault_injection import NO_CAPACITY, Fault
from tests.support.sagemaker import Bench, eventually, scenario, variant


def post(bench: Bench, **fault: Any) -> tuple[int, dict[str, Any]]:
    body = json.dumps(fault).encode()
    return faults.answer(bench.sagemaker.faults, "POST", faults.PATH, body, bench.sagemaker.kill)


async def serve(bench: Bench, **more: Any) -> None:
    bench.model("m")
    bench.config("c", variant(**more))
    assert (await bench.endpoint())["EndpointStatus"] == "InService"


@scenario
async def test_one_in_five_requests_fails(bench: Bench) -> None:
    await serve(bench)
    status, made = post(bench, kind="errors", endpoint="E", share=0.2, status=503)
    assert status == 201
    replies = [await bench.invoke() for _ in range(10)]
    assert [reply.status for reply in replies].count(424) == 2
    assert json.loads(replies[4].body)["OriginalStatusCode"] == 503
    bench.sagemaker.meter.flush()
    assert bench.cloud.total("Invocation5XXErrors", "champion") == 2
    path = f"{faults.PATH}/{made['id']}"
    assert faults.answer(bench.sagemaker.faults, "DELETE", path, b"", bench.sagemaker.kill)[0] == 200
    assert {(await bench.invoke()).status for _ in range(10)} == {200}


@scenario
async def test_a_killed_instance_comes_back(bench: Bench) -> None:
    await serve(bench)
    (instance,) = bench.sagemaker.deployments.live["e"].pools()[0].instances
    before = instance.pid
    assert post(bench, kind="kill", endpoint="e") == (200, {"killed": 1})
    await eventually(lambda: instance.pid not in (before, None) and instance.in_service, "it is replaced")
    assert post(bench, kind="kill", endpoint="other") == (200, {"killed": 0})


@scenario
async def test_a_slow_instance_takes_longer_and_is_measured_so(bench: Bench) -> None:
    await serve(bench)
    post(bench, kind="slow", endpoint="e", seconds=0.3, times=1)
    for _ in range(2):
        assert (await bench.invoke()).status == 200
    bench.sagemaker.meter.flush()
    latencies = [
        value
        for _, datum in bench.cloud.metrics
        if datum["MetricName"] == "ModelLatency"
        for value in datum["Values"]
    ]
    assert max(latencies) >= 300_000
    assert faults.answer(bench.sagemaker.faults, "GET", faults.PATH, b"", bench.sagemaker.kill) == (
        200,
        {"faults": []},
    )


@scenario
async def test_no_capacity_fails_a_resize_and_what_runs_goes_on(bench: Bench) -> None:
    await serve(bench)
    post(bench, kind="no_capacity", endpoint="e")
    bench.call(
        "UpdateEndpointWeightsAndCapacities",
        EndpointName="e",
        DesiredWeightsAndCapacities=[{"VariantName": "champion", "DesiredInstanceCount": 2}],
    )
    described = await bench.settled()
    assert described["EndpointStatus"] == "InService"
    assert described["FailureReason"] == NO_CAPACITY
    (champion,) = described["ProductionVariants"]
    assert (champion["CurrentInstanceCount"], champion["DesiredInstanceCount"]) == (1, 1)
    assert (await bench.invoke()).status == 200


@scenario
async def test_instance_pools_are_tried_in_order(bench: Bench) -> None:
    bench.model("m")
    pools = [{"InstanceType": "ml.g5.xlarge", "Priority": 1}, {"InstanceType": "ml.g6.xlarge", "Priority": 2}]
    one = variant(InstancePools=pools)
    del one["InstanceType"]
    bench.config("c", one)
    post(bench, kind="no_capacity", endpoint="e", instance_type="ml.g5.xlarge")
    described = await bench.endpoint()
    assert described["EndpointStatus"] == "InService"
    assert described["ProductionVariants"][0]["InstancePools"] == [
        {"InstanceType": "ml.g5.xlarge", "CurrentInstanceCount": 0},
        {"InstanceType": "ml.g6.xlarge", "CurrentInstanceCount": 1},
    ]
    post(bench, kind="no_capacity", endpoint="f")
    assert (await bench.endpoint("f"))["FailureReason"] == NO_CAPACITY


@scenario
async def test_a_container_that_may_not_start_fails_the_update(bench: Bench) -> None:
    await serve(bench)
    bench.model("new")
    bench.config("d", variant(model="new"))
    post(bench, kind="fail_start", endpoint="e", model="new")
    bench.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="d")
    described = await bench.settled()
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

    status, answer = faults.answer(faults.Faults(), "POST", faults.PATH, body, kill)
    assert status == 400
    assert words in answer["error"]
