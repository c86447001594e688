"""The refusal table of Application Auto Scaling, and what its API answers when it does not refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from local.autoscaling.cloudformation import CREATE_ONLY, POLICY, ScalingResources
from local.autoscaling.cloudformation import TARGET as TARGET_TYPE
from local.sagemaker.cloudformation import ResourceFailedError
from local.sagemaker.errors import AwsApiError
from tests.support.autoscaling import COMPONENT_TARGET, COUNT, RESOURCE, TARGET, AutoScalingHarness, scenario

KEY = f"service namespace: sagemaker, resource ID: {RESOURCE}, scalable dimension: {COUNT}"
PREDEFINED = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
TRACKING = {"TargetValue": 5.0, "PredefinedMetricSpecification": PREDEFINED}
STEPS = {
    "AdjustmentType": "ChangeInCapacity",
    "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
}


def step(low: float | None, high: float | None) -> dict[str, Any]:
    bounds = {"MetricIntervalLowerBound": low, "MetricIntervalUpperBound": high}
    return {"ScalingAdjustment": 1} | {name: value for name, value in bounds.items() if value is not None}


def steps(*adjustments: dict[str, Any], **more: Any) -> dict[str, Any]:
    configuration = STEPS | {"StepAdjustments": list(adjustments)} | more
    return {"PolicyType": "StepScaling", "StepScalingPolicyConfiguration": configuration}


def tracking(**more: Any) -> dict[str, Any]:
    return {
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": TRACKING | more,
    }


def schedule(**more: Any) -> dict[str, Any]:
    return {
        "ScheduledActionName": "a",
        "Schedule": "rate(1 hour)",
        "ScalableTargetAction": {"MinCapacity": 2},
    } | more


CUSTOM = {"MetricName": "M", "Namespace": "N"}


OTHER = {"PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"}
INVALID, NOT_FOUND = "ValidationException", "ObjectNotFoundException"
REGISTER, PUT, SCHEDULE = "RegisterScalableTarget", "PutScalingPolicy", "PutScheduledAction"


@pytest.mark.parametrize(
    ("operation", "request_", "code", "words"),
    [
        (REGISTER, {"ServiceNamespace": "ecs"}, INVALID, "only the service namespace"),
        (REGISTER, {"ServiceNamespace": "moon"}, INVALID, "enum value set"),
        (REGISTER, {"Colour": "red"}, INVALID, "Unknown field 'Colour'"),
        (REGISTER, {"ResourceId": "x", "MinCapacity": 1, "MaxCapacity": 2}, INVALID,
         "x is not there"),
        (REGISTER, {"MinCapacity": -1}, INVALID, "cannot be negative"),
        (REGISTER, {"MinCapacity": 9}, INVALID, "cannot be less than minimum"),
        (REGISTER, {"MinCapacity": 0}, INVALID, "must be at least 1"),
        (REGISTER, {"Tags": {"a": "b"}}, INVALID, "use the TagResource API"),
        ("DeregisterScalableTarget", {"ResourceId": "x"}, NOT_FOUND,
         f"No scalable target found for {KEY.replace(RESOURCE, 'x')}"),
        (PUT, {"PolicyName": "q", "ResourceId": "x", **tracking()}, NOT_FOUND,
         "No scalable target found"),
        (PUT, {"PolicyName": "q", "PolicyType": "TargetTrackingScaling"}, INVALID,
         "must have TargetTrackingScalingPolicyConfiguration"),
        (PUT, {"PolicyName": "q", **tracking(), "StepScalingPolicyConfiguration": STEPS},
         INVALID, "must not have StepScalingPolicyConfiguration"),
        (PUT, {"PolicyName": "q", "PolicyType": "PredictiveScaling"}, INVALID,
         "not supported for the service namespace sagemaker"),
        (PUT, {"PolicyName": "p", **steps(step(0, None))}, INVALID,
         "type of the policy p cannot be changed"),
        (PUT, {"PolicyName": "q", **tracking()}, INVALID,
         "Only one TargetTrackingScaling policy for a given metric specification is allowed."),
        (PUT, {"PolicyName": "q", **tracking(TargetValue=0.0)}, INVALID,
         "TargetValue must be greater than 0"),
        (PUT, {"PolicyName": "q", **tracking(ScaleInCooldown=-1)}, INVALID,
         "ScaleInCooldown must not be negative"),
        (PUT, {"PolicyName": "q", **tracking(PredefinedMetricSpecification={
            "PredefinedMetricType": "SageMakerInferenceComponentInvocationsPerCopy"})}, INVALID,
         "is not valid for scalable dimension"),
        (PUT, {"PolicyName": "q", **tracking(PredefinedMetricSpecification={
            "PredefinedMetricType": "ECSServiceAverageCPUUtilization"})}, INVALID, "is not valid for"),
        (PUT, {"PolicyName": "q", **tracking(
            PredefinedMetricSpecification=OTHER, CustomizedMetricSpecification=CUSTOM)},
         INVALID, "exactly one of PredefinedMetricSpecification"),
        (PUT, {"PolicyName": "q", "PolicyType": "TargetTrackingScaling",
         "TargetTrackingScalingPolicyConfiguration": {
             "TargetValue": 1.0, "CustomizedMetricSpecification": CUSTOM}},
         INVALID, "must have Statistic"),
        (PUT, {"PolicyName": "q", **steps()}, INVALID, "and StepAdjustments"),
        (PUT, {"PolicyName": "q", **steps(step(0, 5), step(4, None))}, INVALID,
         "must not overlap"),
        (PUT, {"PolicyName": "q", **steps(step(0, 5), step(6, None))}, INVALID,
         "must be no gap"),
        (PUT, {"PolicyName": "q", **steps(step(5, 5))}, INVALID, "must be less than"),
        (PUT, {"PolicyName": "q", **steps(step(0, None), MinAdjustmentMagnitude=2)},
         INVALID, "only valid with the adjustment type PercentChangeInCapacity"),
        ("DeleteScalingPolicy", {"PolicyName": "x"}, NOT_FOUND,
         f"No scaling policy found for {KEY}, scaling policy name: x"),
        (SCHEDULE, schedule(Schedule="hourly"), INVALID, "at(…), rate(…) or cron(…)"),
        (SCHEDULE, schedule(Schedule="cron(0 8 * * * *)"), INVALID, "exactly one of"),
        (SCHEDULE, schedule(Schedule="cron(0 8 L * ? *)"), INVALID, "does not know L"),
        (SCHEDULE, schedule(Timezone="Moon/Base"), INVALID, "Moon/Base is not valid"),
        (SCHEDULE, schedule(ScalableTargetAction={}), INVALID, "MinCapacity, MaxCapacity"),
        (SCHEDULE, schedule(ScalableTargetAction={"MinCapacity": 3, "MaxCapacity": 2}),
         INVALID, "cannot be less than minimum"),
        (SCHEDULE, schedule(StartTime=20, EndTime=10), INVALID, "before EndTime"),
        ("DeleteScheduledAction", {"ScheduledActionName": "x"}, NOT_FOUND,
         "scheduled action name: x"),
        ("GetPredictiveScalingForecast", {}, "UnknownOperationException", "is not part of the laptop cloud"),
        ("ScaleToMars", {}, "UnknownOperationException", "does not exist"),
    ],
)  # fmt: skip
def test_refusals(operation: str, request_: dict[str, Any], code: str, words: str) -> None:
    async def drive() -> None:
        harness = AutoScalingHarness()
        await harness.register()
        await harness.policy("p", **TRACKING)
        with pytest.raises(AwsApiError) as caught:
            await harness.call(operation, **(TARGET | request_))
        assert (caught.value.code, caught.value.status) == (code, 400)
        assert words in caught.value.message
        # Nothing that is refused leaves a trace.
        assert len(harness.watch.alarms) == 2
        assert list(harness.store.target(TARGET).policies) == ["p"]

    asyncio.run(drive())


@scenario
async def test_a_first_registration_needs_both_limits_and_makes_the_role(harness: AutoScalingHarness) -> None:
    with pytest.raises(AwsApiError, match="Both minimum capacity and maximum capacity"):
        await harness.call("RegisterScalableTarget", **TARGET, MinCapacity=1)
    await harness.register()
    await harness.call("RegisterScalableTarget", **TARGET, MaxCapacity=9)
    (target,) = (await harness.call("DescribeScalableTargets", ServiceNamespace="sagemaker"))[
        "ScalableTargets"
    ]
    assert (target["MinCapacity"], target["MaxCapacity"], target["RoleARN"]) == (1, 9, "arn:role")
    assert harness.roles_made == 1
    assert harness.control.scaled_variants("E") == {"champion"}


@scenario
async def test_components_go_down_to_zero(harness: AutoScalingHarness) -> None:
    await harness.register(0, 2, **COMPONENT_TARGET)


@scenario
async def test_a_policy_has_the_alarms_that_the_service_would_make(harness: AutoScalingHarness) -> None:
    await harness.register()
    put = await harness.policy("p", **TRACKING)
    high, low = (harness.watch.alarms[alarm["AlarmName"]] for alarm in put["Alarms"])
    assert high["AlarmActions"] == low["AlarmActions"] == [put["PolicyARN"]]
    seen = [(a["Threshold"], a["EvaluationPeriods"], a["Period"], a["Statistic"]) for a in (high, low)]
    assert seen == [(5.0, 3, 60, "Sum"), (4.5, 15, 60, "Sum")]
    assert high["MetricName"] == "InvocationsPerInstance"
    again = await harness.policy("p", **TRACKING | {"TargetValue": 7.0})
    assert again["PolicyARN"] == put["PolicyARN"]
    assert sorted(a["Threshold"] for a in harness.watch.alarms.values()) == [pytest.approx(6.3), 7.0]
    await harness.call("DeregisterScalableTarget", **TARGET)
    assert harness.watch.alarms == {}
    assert (await harness.call("DescribeScalingPolicies", ServiceNamespace="sagemaker"))[
        "ScalingPolicies"
    ] == []


@scenario
async def test_targets_go_with_what_they_scaled(harness: AutoScalingHarness) -> None:
    await harness.register()
    await harness.policy("p", **TRACKING)
    del harness.resources.capacities[RESOURCE]
    await harness.control.prune()
    assert (harness.store.targets, harness.watch.alarms) == ({}, {})


@scenario
async def test_tags_and_pages(harness: AutoScalingHarness) -> None:
    await harness.register(Tags={"team": "a"})
    await harness.register(0, 2, **COMPONENT_TARGET)
    first = await harness.call("DescribeScalableTargets", ServiceNamespace="sagemaker", MaxResults=1)
    rest = await harness.call(
        "DescribeScalableTargets", ServiceNamespace="sagemaker", NextToken=first["NextToken"]
    )
    assert len(first["ScalableTargets"] + rest["ScalableTargets"]) == 2
    arn = first["ScalableTargets"][0]["ScalableTargetARN"]
    await harness.call("TagResource", ResourceARN=arn, Tags={"x": "y"})
    await harness.call("UntagResource", ResourceARN=arn, TagKeys=["team"])
    assert await harness.call("ListTagsForResource", ResourceARN=arn) == {"Tags": {"x": "y"}}
    with pytest.raises(AwsApiError, match="doesn't exist"):
        await harness.call("ListTagsForResource", ResourceARN=arn + "x")


@scenario
async def test_a_stacks_target_and_policy_live_and_die(harness: AutoScalingHarness) -> None:
    resources = ScalingResources(harness.control)
    nightly = {"ScheduledActionName": "night", "Schedule": "cron(0 20 ? * MON-FRI *)"}
    nightly["ScalableTargetAction"] = {"MinCapacity": "1", "MaxCapacity": "1"}
    # As templates do, with numbers in the shape of strings.
    properties = TARGET | {
        "MinCapacity": "1",
        "MaxCapacity": 4,
        "RoleARN": "r",
        "ScheduledActions": [nightly],
    }
    physical_id, _ = await resources.put_target(properties)
    assert physical_id == f"{RESOURCE}|{COUNT}|sagemaker"
    policy = {
        "PolicyName": "p",
        "PolicyType": "TargetTrackingScaling",
        "ScalingTargetId": physical_id,
        "TargetTrackingScalingPolicyConfiguration": TRACKING | {"TargetValue": "5"},
    }
    arn, attributes = await resources.put_policy(policy)
    assert attributes == {"Arn": arn}
    await resources.put_target(properties | {"MaxCapacity": 6, "ScheduledActions": []}, properties)
    target = harness.store.target(TARGET)
    assert (target.record["MaxCapacity"], target.schedules) == (6, {})
    with pytest.raises(ResourceFailedError, match=r"cannot be less than minimum.*ApplicationAutoScaling"):
        await resources.put_target(properties | {"MaxCapacity": 0}, properties)
    for _ in range(2):  # deleting what is gone is no error
        await resources.delete_policy(arn)
        await resources.delete_target(physical_id)
    assert (harness.store.targets, harness.watch.alarms) == ({}, {})
    assert "ResourceId" in CREATE_ONLY[TARGET_TYPE]
    assert "PolicyName" in CREATE_ONLY[POLICY]
