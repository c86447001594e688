"""Instances as processes: start, health, death, restart, stop, and what they may see."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from local.sagemaker.instances import metrics, parent_death_signal, pool
from tests.support.sagemaker import (
    HERE,
    IMAGE,
    ROLE,
    TIMEOUT_SECONDS,
    RecordedCloud,
    SageMakerHarness,
    build,
    eventually,
    gate,
    running,
    scenario,
    variant,
    waiting,
)
from tests.support.waiting import until


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def pids(harness: SageMakerHarness) -> list[int]:
    fleet = harness.sagemaker.deployments.live["e"].blue
    return [instance.pid for each in fleet.pools for instance in each.instances]


@scenario
async def test_an_instance_sees_its_own_environment_and_nothing_else(harness: SageMakerHarness) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_OF_THE_OPERATOR", "x")
        harness.model("m", COLOUR="red")
        harness.config("c", variant())
        await harness.endpoint()
        seen = json.loads((await harness.invoke()).body)["environment"]
    assert seen["COLOUR"] == "red"
    assert seen["AWS_ACCESS_KEY_ID"] == "AKIDROLE"
    assert seen["AWS_SESSION_TOKEN"] == "token"
    assert seen["AWS_REGION"] == "us-east-1"
    assert seen["AWS_ENDPOINT_URL"] == harness.cloud.endpoint_url
    assert int(seen["SAGEMAKER_BIND_TO_PORT"]) > 0
    assert not {"SECRET_OF_THE_OPERATOR", "PYTHONPATH"} & seen.keys()
    assert "/scratch/" in seen["HOME"]


@scenario
async def test_lines_of_a_container_become_log_events(harness: SageMakerHarness) -> None:
    harness.model("m")
    harness.config("c", variant())
    await harness.endpoint()
    await eventually(lambda: bool(harness.cloud.lines), "the first line is shipped")
    group, stream, line = harness.cloud.lines[0]
    assert group == "/aws/sagemaker/Endpoints/e"
    assert stream.startswith("champion/i-")
    assert line == "m starting"


@scenario
async def test_a_crashing_container_fails_the_endpoint_with_its_last_lines(harness: SageMakerHarness) -> None:
    harness.model("m", FAKE_CRASH="1")
    harness.config("c", variant())
    described = await harness.endpoint()
    assert described["EndpointStatus"] == "Failed"
    assert "champion stopped with exit status 3" in described["FailureReason"]
    assert described["FailureReason"].endswith("RuntimeError: the weights are damaged")
    assert (await harness.invoke()).status == 400
    harness.call("DeleteEndpoint", EndpointName="e")
    await harness.sagemaker.deployments.wait("e")
    assert harness.call("ListEndpoints")["Endpoints"] == []


@scenario
async def test_a_container_that_never_answers_its_ping(harness: SageMakerHarness) -> None:
    harness.model("m", FAKE_PING="500")
    harness.config("c", variant())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "DEFAULT_STARTUP_SECONDS", 2.0)
        described = await harness.endpoint()
    assert described["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check. Please check CloudWatch logs" in described["FailureReason"]


@scenario
async def test_an_unknown_image(harness: SageMakerHarness) -> None:
    harness.call(
        "CreateModel",
        ModelName="m",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": IMAGE.replace("fake", "unheard-of")},
    )
    harness.config("c", variant())
    described = await harness.endpoint()
    assert described["EndpointStatus"] == "Failed"
    assert described["FailureReason"].startswith("CannotPullContainerError")


def test_model_data_that_takes_too_long(tmp_path: Path) -> None:
    class Endless:
        """A bucket that never answers in time."""

        def get_paginator(self, _name: str) -> None:
            gate.wait(TIMEOUT_SECONDS)
            raise OSError("given up")

    async def run() -> dict:
        cloud = RecordedCloud()
        harness = SageMakerHarness(build(tmp_path, cloud, lambda _credentials: Endless()), cloud)
        await harness.sagemaker.start()
        data = {"S3Uri": "s3://b/p/", "S3DataType": "S3Prefix", "CompressionType": "None"}
        container = {"Image": IMAGE, "ModelDataSource": {"S3DataSource": data}}
        harness.call("CreateModel", ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)
        harness.config("c", variant())
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pool, "DEFAULT_DOWNLOAD_SECONDS", 0.2)
                return await harness.endpoint()
        finally:
            gate.set()
            await harness.sagemaker.stop()

    gate = threading.Event()
    described = asyncio.run(run())
    assert described["EndpointStatus"] == "Failed"
    assert described["FailureReason"] == "Model data download timed out for s3://b/p/."


@scenario
async def test_a_killed_instance_is_replaced_and_callers_get_503_meanwhile(harness: SageMakerHarness) -> None:
    with gate() as file:
        file.touch()
        harness.model("m", FAKE_START_FILE=str(file))
        harness.config("c", variant())
        await harness.endpoint()
        (before,) = pids(harness)
        (pool,) = harness.sagemaker.deployments.live["e"].pools()
        file.unlink()
        os.killpg(before, signal.SIGKILL)
        await eventually(lambda: not alive(before), "the process is gone")
        reply = await harness.invoke()
        assert (reply.status, reply.headers["x-amzn-ErrorType"]) == (503, "ServiceUnavailable")
        file.touch()
        await eventually(lambda: pool.instances[0].in_service, "the instance is replaced")
    assert (await harness.invoke()).status == 200
    assert pids(harness) != [before]
    assert harness.call("DescribeEndpoint", EndpointName="e")["EndpointStatus"] == "InService"


@scenario
async def test_one_dead_instance_of_two_costs_no_request(harness: SageMakerHarness) -> None:
    harness.model("m")
    harness.config("c", variant(InitialInstanceCount=2))
    await harness.endpoint()
    killed = pids(harness)[0]
    os.killpg(killed, signal.SIGKILL)
    await eventually(lambda: not alive(killed), "the process is gone")
    for _ in range(20):
        assert (await harness.invoke()).status == 200


@scenario
async def test_counts_are_processes(harness: SageMakerHarness) -> None:
    harness.model("m")
    harness.config("c", variant())
    await harness.endpoint()

    async def resize(count: int) -> dict:
        harness.call(
            "UpdateEndpointWeightsAndCapacities",
            EndpointName="e",
            DesiredWeightsAndCapacities=[{"VariantName": "champion", "DesiredInstanceCount": count}],
        )
        return (await harness.settled())["ProductionVariants"][0]

    assert (await resize(3))["CurrentInstanceCount"] == 3
    three = pids(harness)
    assert len({json.loads((await harness.invoke()).body)["pid"] for _ in range(60)}) == 3
    assert (await resize(1))["CurrentInstanceCount"] == 1
    assert sum(alive(pid) for pid in three) == 1


@scenario
async def test_deleting_ends_the_processes_after_their_last_request(harness: SageMakerHarness) -> None:
    harness.model("m")
    harness.config("c", variant())
    await harness.endpoint()
    (pid,) = pids(harness)
    with gate() as file:
        slow = asyncio.create_task(harness.invoke(waiting(file)))
        await eventually(
            lambda: bool(harness.sagemaker.deployments.live["e"].blue.pools[0].outstanding), "it runs"
        )
        harness.call("DeleteEndpoint", EndpointName="e")
        file.touch()
        assert (await slow).status == 200
    await harness.sagemaker.deployments.wait("e")
    assert not alive(pid)
    assert harness.call("ListEndpoints")["Endpoints"] == []


def test_a_restored_endpoint_comes_back_even_without_its_model(tmp_path: Path) -> None:
    async def first_life() -> dict:
        async with running(tmp_path) as harness:
            harness.model("m")
            harness.config("c", variant(InitialVariantWeight=2.0))
            await harness.endpoint()
            harness.call("DeleteModel", ModelName="m")
            harness.call("DeleteEndpointConfig", EndpointConfigName="c")
            return json.loads(json.dumps(harness.sagemaker.dump()))

    async def second_life(state: dict) -> None:
        cloud = RecordedCloud()
        harness = SageMakerHarness(build(tmp_path, cloud), cloud)
        harness.sagemaker.load(state)
        await harness.sagemaker.start()
        try:
            assert harness.call("DescribeEndpoint", EndpointName="e")["EndpointStatus"] == "SystemUpdating"
            described = await harness.settled()
            assert described["EndpointStatus"] == "InService"
            assert described["ProductionVariants"][0]["CurrentWeight"] == 2.0
            assert (await harness.invoke()).status == 200
        finally:
            await harness.sagemaker.stop()

    asyncio.run(second_life(asyncio.run(first_life())))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_an_instance_dies_with_the_emulator() -> None:
    """A parent that starts a process and is then killed takes the process along."""
    script = (
        "import os, subprocess, sys, time\n"
        f"command = [sys.executable, {parent_death_signal.__file__!r}, str(os.getpid()), 'sleep', '600']\n"
        "child = subprocess.Popen(command, start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=HERE)
    child = int(parent.stdout.readline())
    cmdline = Path(f"/proc/{child}/cmdline")
    until(lambda: cmdline.read_bytes().split(b"\0")[0] == b"sleep", "the launcher becomes the command")
    parent.kill()
    parent.wait()
    until(lambda: not alive(child), "the child ends with its parent")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@scenario
async def test_utilisation_is_measured_on_the_processes(harness: SageMakerHarness) -> None:
    harness.model("m")
    harness.config("c", variant())
    await harness.endpoint()
    pools = harness.sagemaker.deployments.live["e"].pools()
    metrics.record_utilization(harness.sagemaker.metric_buffer, metrics.UtilizationSampler(), pools)
    metrics.record_concurrency(harness.sagemaker.metric_buffer, pools)
    harness.sagemaker.metric_buffer.flush()
    by_name = {datum["MetricName"]: (namespace, datum) for namespace, datum in harness.cloud.metrics}
    assert by_name["MemoryUtilization"][0] == "/aws/sagemaker/Endpoints"
    assert 0 < by_name["MemoryUtilization"][1]["Values"][0] < 100
    assert by_name["CPUUtilization"][1]["Unit"] == "Percent"
    assert by_name["ConcurrentRequestsPerModel"][1]["Values"] == [0.0]
