"""Endpoint updates under traffic: no request is lost, and what goes wrong is taken back."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from local.sagemaker.instances import traffic_shifting
from tests.support.sagemaker import SageMakerHarness, collect, eventually, scenario, variant


@asynccontextmanager
async def traffic(harness: SageMakerHarness):
    """Steady requests while the block runs; gives the counts of (status, answering model)."""
    seen: Counter[tuple[int, str]] = Counter()
    stop = asyncio.Event()

    async def one_caller() -> None:
        while not stop.is_set():
            reply = await harness.invoke(b'{"sleep": 0.02}')
            seen[reply.status, json.loads(reply.body).get("name", "")] += 1

    callers = [asyncio.create_task(one_caller()) for _ in range(3)]
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.gather(*callers)


async def two_releases(harness: SageMakerHarness, count: int = 1, **second: str) -> None:
    """Endpoint `e` serves model `old` under configuration `c`; `d` has model `new`."""
    harness.model("old")
    harness.model("new", **second)
    harness.config("c", variant(model="old", InitialInstanceCount=count))
    harness.config("d", variant(model="new", InitialInstanceCount=count))
    assert (await harness.endpoint())["EndpointStatus"] == "InService"


class Clock:
    """The clock that a bake is timed by, which a test moves on."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def end_bake(self) -> None:
        self._ahead += LONG_BAKE


@asynccontextmanager
async def baking_clock() -> AsyncIterator[Clock]:
    """A bake of `LONG_BAKE` seconds lasts until the test ends it."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traffic_shifting, "monotonic", clock)
        yield clock


def guarded(kind: str, *alarms: str, bake: int = 1, **sizes: dict) -> dict:
    routing = {"Type": kind, "WaitIntervalInSeconds": bake, **sizes}
    deployment: dict = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}
    if alarms:
        deployment["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in alarms]}
    return deployment


LONG_BAKE = 3600
HALF = {"Type": "CAPACITY_PERCENT", "Value": 50}


@scenario
async def test_an_update_loses_no_request(harness: SageMakerHarness) -> None:
    await two_releases(harness)
    async with traffic(harness) as seen:
        await eventually(lambda: seen[200, "old"] > 5, "the old model answers")
        harness.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="d")
        described = harness.call("DescribeEndpoint", EndpointName="e")
        assert described["EndpointStatus"] == "Updating"
        described = await harness.settled()
        await eventually(lambda: seen[200, "new"] > 5, "the new model answers")
    assert described["EndpointConfigName"] == "d"
    assert described["EndpointStatus"] == "InService"
    assert "FailureReason" not in described
    assert {status for status, _ in seen} == {200}
    assert described["LastDeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"][
        "Type"
    ] == ("ALL_AT_ONCE")


@scenario
async def test_a_stream_that_began_before_an_update_ends_after_it(harness: SageMakerHarness) -> None:
    await two_releases(harness)
    reply = await harness.invoke(b'{"chunks": 30, "pause": 0.1}', stream=True)
    harness.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="d")
    payload, headers = await collect(reply)
    assert payload.count(b"chunk") == 30
    assert {each[":message-type"] for each in headers} == {"event"}
    assert (await harness.settled())["EndpointConfigName"] == "d"


@scenario
async def test_an_update_whose_container_does_not_start_is_taken_back(harness: SageMakerHarness) -> None:
    await two_releases(harness, FAKE_CRASH="1")
    async with traffic(harness) as seen:
        harness.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="d")
        described = await harness.settled()
    assert described["EndpointStatus"] == "InService"
    assert described["EndpointConfigName"] == "c"
    assert "the weights are damaged" in described["FailureReason"]
    assert set(seen) <= {(200, "old")}
    statuses = [detail["EndpointStatus"] for _, detail in harness.cloud.events]
    assert statuses == ["CREATING", "IN_SERVICE", "UPDATING", "ROLLING_BACK", "IN_SERVICE"]


@scenario
async def test_a_canary_shares_traffic_and_then_takes_it_all(harness: SageMakerHarness) -> None:
    await two_releases(harness, count=2)
    live = harness.sagemaker.deployments.live["e"]
    async with baking_clock() as clock, traffic(harness) as seen:
        harness.call(
            "UpdateEndpoint",
            EndpointName="e",
            EndpointConfigName="d",
            DeploymentConfig=guarded("CANARY", bake=LONG_BAKE, CanarySize=HALF),
        )
        await eventually(lambda: seen[200, "new"] > 0, "the canary answers")
        old_answers = seen[200, "old"]
        pending = harness.call("DescribeEndpoint", EndpointName="e")["PendingDeploymentSummary"]
        assert pending["EndpointConfigName"] == "d"
        assert pending["ProductionVariants"][0]["VariantStatus"] == [{"Status": "Baking"}]
        await eventually(lambda: seen[200, "old"] > old_answers, "the old model answers beside the canary")
        clock.end_bake()
        await eventually(lambda: live.green_share == 1.0, "the new model has all traffic")
        clock.end_bake()
        described = await harness.settled()
    assert described["EndpointConfigName"] == "d"
    assert "PendingDeploymentSummary" not in described
    assert {status for status, _ in seen} == {200}


@scenario
async def test_an_alarm_during_baking_takes_the_canary_back(harness: SageMakerHarness) -> None:
    await two_releases(harness, count=2)
    async with traffic(harness) as seen:
        harness.call(
            "UpdateEndpoint",
            EndpointName="e",
            EndpointConfigName="d",
            DeploymentConfig=guarded("CANARY", "errors", "latency", bake=LONG_BAKE, CanarySize=HALF),
        )
        await eventually(lambda: seen[200, "new"] > 0, "the canary answers")
        harness.cloud.in_alarm.add("errors")
        described = await harness.settled()
    assert described["EndpointConfigName"] == "c"
    assert described["EndpointStatus"] == "InService"
    assert described["FailureReason"] == "Auto rollback: alarm(s) errors went into state ALARM."
    assert {status for status, _ in seen} == {200}
    answer = json.loads((await harness.invoke()).body)
    assert answer["name"] == "old"


@scenario
async def test_an_alarm_that_cannot_be_read_takes_the_update_back(harness: SageMakerHarness) -> None:
    async def broken(_names: object) -> list[str]:
        raise ConnectionError("CloudWatch is away")

    await two_releases(harness, count=2)
    harness.cloud.alarms_in_alarm = broken
    harness.call(
        "UpdateEndpoint",
        EndpointName="e",
        EndpointConfigName="d",
        DeploymentConfig=guarded("CANARY", "errors", CanarySize=HALF),
    )
    described = await harness.settled()
    assert described["EndpointConfigName"] == "c"
    assert described["FailureReason"].endswith("CloudWatch is away")
    assert json.loads((await harness.invoke()).body)["name"] == "old"


@scenario
async def test_variants_come_and_go(harness: SageMakerHarness) -> None:
    await two_releases(harness)
    harness.config("ab", variant("champion", "old"), variant("challenger", "new"))
    async with traffic(harness) as seen:
        for config, answering in (("ab", {"old", "new"}), ("c", {"old"})):
            harness.call("UpdateEndpoint", EndpointName="e", EndpointConfigName=config)
            described = await harness.settled()
            assert described["EndpointConfigName"] == config
            seen.clear()
            await eventually(lambda names=answering: {name for _, name in seen} == names, "all answer")
            assert {status for status, _ in seen} == {200}


async def sizes_after(harness: SageMakerHarness, **options: object) -> tuple[float, int]:
    harness.model("old")
    harness.config("c", variant(model="old"))
    harness.config("d", variant(model="old"))
    await harness.endpoint()
    harness.call(
        "UpdateEndpointWeightsAndCapacities",
        EndpointName="e",
        DesiredWeightsAndCapacities=[
            {"VariantName": "champion", "DesiredWeight": 5.0, "DesiredInstanceCount": 2}
        ],
    )
    await harness.settled()
    harness.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="d", **options)
    (champion,) = (await harness.settled())["ProductionVariants"]
    return champion["CurrentWeight"], champion["CurrentInstanceCount"]


@scenario
async def test_an_update_resets_weights_and_counts(harness: SageMakerHarness) -> None:
    assert await sizes_after(harness) == (1.0, 1)


@scenario
async def test_an_update_retains_weights_and_counts_when_asked(harness: SageMakerHarness) -> None:
    assert await sizes_after(harness, RetainAllVariantProperties=True) == (5.0, 2)


@scenario
async def test_an_excluded_property_is_reset(harness: SageMakerHarness) -> None:
    excluded = [{"VariantPropertyType": "DesiredWeight"}]
    sizes = await sizes_after(
        harness, RetainAllVariantProperties=True, ExcludeRetainedVariantProperties=excluded
    )
    assert sizes == (1.0, 2)


def rolling(*alarms: str) -> dict:
    policy = {"MaximumBatchSize": HALF, "WaitIntervalInSeconds": LONG_BAKE}
    deployment: dict = {"RollingUpdatePolicy": policy}
    if alarms:
        deployment["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in alarms]}
    return deployment


@scenario
async def test_a_rolling_update_moves_batch_by_batch_without_a_second_fleet(
    harness: SageMakerHarness,
) -> None:
    await two_releases(harness, count=2)
    live = harness.sagemaker.deployments.live["e"]
    async with baking_clock() as clock, traffic(harness) as seen:
        harness.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="d", DeploymentConfig=rolling())
        await eventually(lambda: live.green is not None and live.green_share == 0.5, "the first batch serves")
        assert len(live.green.pools[0].instances) == 1
        clock.end_bake()
        await eventually(lambda: live.green is not None and live.green_share == 1.0, "the last batch serves")
        clock.end_bake()
        described = await harness.settled()
        await eventually(lambda: seen[200, "new"] > 5, "the new model answers")
    assert described["EndpointConfigName"] == "d"
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert {status for status, _ in seen} == {200}


@scenario
async def test_a_rolling_update_with_an_alarm_gives_the_old_fleet_back(harness: SageMakerHarness) -> None:
    await two_releases(harness, count=2)
    live = harness.sagemaker.deployments.live["e"]
    async with baking_clock() as clock, traffic(harness) as seen:
        harness.call(
            "UpdateEndpoint", EndpointName="e", EndpointConfigName="d", DeploymentConfig=rolling("errors")
        )
        await eventually(lambda: live.green is not None and live.green_share == 0.5, "the first batch serves")
        clock.end_bake()
        await eventually(lambda: live.green is not None and live.green_share == 1.0, "the last batch serves")
        harness.cloud.in_alarm.add("errors")
        described = await harness.settled()
    assert described["EndpointConfigName"] == "c"
    assert described["FailureReason"].startswith("Auto rollback")
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert {status for status, _ in seen} == {200}


@scenario
async def test_a_deployment_configuration_can_be_retained(harness: SageMakerHarness) -> None:
    await two_releases(harness, count=2)
    canary = guarded("CANARY", CanarySize=HALF)
    harness.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="d", DeploymentConfig=canary)
    await harness.settled()
    harness.call("UpdateEndpoint", EndpointName="e", EndpointConfigName="c", RetainDeploymentConfig=True)
    described = await harness.settled()
    assert described["EndpointConfigName"] == "c"
    assert described["LastDeploymentConfig"] == canary
