"""What policies and schedules do to a capacity while load and time go by."""

from __future__ import annotations

from tests.support.autoscaling import (
    COMPONENT,
    COMPONENT_TARGET,
    RESOURCE,
    TARGET,
    AutoScalingHarness,
    scenario,
)

PREDEFINED = {"PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"}
PERIOD = 10


async def tracking(harness: AutoScalingHarness, **more: object) -> None:
    await harness.register()
    await harness.policy(TargetValue=5.0, PredefinedMetricSpecification=PREDEFINED, **more)


async def stepping(
    harness: AutoScalingHarness, name: str, alarm: dict, target: dict = TARGET, **policy: object
) -> None:
    """A step policy and the alarm whose action it is."""
    put = await harness.policy(name, "StepScaling", target=target, **policy)
    metric = {"Namespace": "AWS/SageMaker", "MetricName": "ConcurrentRequestsPerModel"}
    dimensions = [{"Name": "EndpointName", "Value": "e"}, {"Name": "VariantName", "Value": "champion"}]
    harness.watch.put(
        metric
        | {"AlarmName": f"alarm-{name}", "AlarmActions": [put["PolicyARN"]], "Dimensions": dimensions}
        | {"Statistic": "Maximum", "Period": PERIOD, "EvaluationPeriods": 1}
        | alarm
    )


@scenario
async def test_a_step_load_is_followed_within_three_periods_and_left_again(
    harness: AutoScalingHarness,
) -> None:
    await tracking(harness, ScaleInCooldown=60)
    await harness.pass_time(60, lambda _: 2.0)
    assert harness.capacity == 1
    await harness.pass_time(3 * PERIOD, lambda capacity: 18.0 / capacity)
    assert harness.capacity == 4  # 18 requests at 5 each
    await harness.pass_time(300, lambda capacity: 18.0 / capacity)
    assert harness.capacity == 4
    await harness.pass_time(890, lambda _: 0.0)
    assert harness.capacity == 4, "capacity leaves later than it comes"
    await harness.pass_time(20, lambda _: 0.0)
    assert harness.capacity == 1
    newest, oldest = await harness.activities()
    assert oldest["Description"] == "Setting desired instance count to 4."
    assert oldest["StatusCode"] == "Successful"
    assert oldest["Cause"].startswith(f"monitor alarm TargetTracking-{RESOURCE}-AlarmHigh-")
    assert oldest["Cause"].endswith("in state ALARM triggered policy p")
    assert newest["Description"] == "Setting desired instance count to 1."


@scenario
async def test_the_limits_hold_and_say_so(harness: AutoScalingHarness) -> None:
    await tracking(harness)
    await harness.pass_time(60, lambda _: 500.0)
    assert harness.capacity == 4
    await harness.pass_time(600, lambda _: 500.0)
    (newest, _) = await harness.activities(IncludeNotScaledActivities=True)
    assert newest["NotScaledReasons"] == [
        {"Code": "AlreadyAtMaxCapacity", "CurrentCapacity": 4, "MaxCapacity": 4}
    ]
    assert len(await harness.activities()) == 1


@scenario
async def test_a_policy_that_may_not_scale_in_has_no_low_alarm(harness: AutoScalingHarness) -> None:
    await tracking(harness, DisableScaleIn=True)
    assert [name.split("-")[-6] for name in harness.watch.alarms] == ["AlarmHigh"]
    await harness.pass_time(40, lambda capacity: 18.0 / capacity)
    await harness.pass_time(1200, lambda _: 0.0)
    assert harness.capacity == 4


@scenario
async def test_suspended_directions_do_nothing_and_come_back(harness: AutoScalingHarness) -> None:
    await tracking(harness)
    await harness.call(
        "RegisterScalableTarget", **TARGET, SuspendedState={"DynamicScalingOutSuspended": True}
    )
    await harness.pass_time(60, lambda _: 18.0)
    assert harness.capacity == 1
    await harness.call(
        "RegisterScalableTarget", **TARGET, SuspendedState={"DynamicScalingOutSuspended": False}
    )
    await harness.pass_time(20, lambda _: 18.0)
    assert harness.capacity == 4


UP = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": [
    {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 10, "ScalingAdjustment": 1},
    {"MetricIntervalLowerBound": 10, "ScalingAdjustment": 3},
]}  # fmt: skip
DOWN = {"AdjustmentType": "ExactCapacity", "StepAdjustments": [
    {"MetricIntervalUpperBound": 0, "ScalingAdjustment": 1},
]}  # fmt: skip
ABOVE = {"ComparisonOperator": "GreaterThanThreshold", "Threshold": 5.0}
BELOW = {"ComparisonOperator": "LessThanThreshold", "Threshold": 1.0}


@scenario
async def test_step_policies_follow_a_load_up_and_down(harness: AutoScalingHarness) -> None:
    await harness.register(max_capacity=8)
    await stepping(harness, "up", ABOVE, **UP, Cooldown=0)
    await stepping(harness, "down", BELOW, **DOWN, Cooldown=0)
    await harness.pass_time(PERIOD, lambda _: 16.0)
    assert harness.capacity == 4
    await harness.pass_time(PERIOD, lambda _: 0.0)
    assert harness.capacity == 1
    described = await harness.call(
        "DescribeScalingPolicies", ServiceNamespace="sagemaker", PolicyNames=["up"]
    )
    (policy,) = described["ScalingPolicies"]
    assert [alarm["AlarmName"] for alarm in policy["Alarms"]] == ["alarm-up"]


@scenario
async def test_what_a_cooling_step_added_counts_towards_a_larger_one(harness: AutoScalingHarness) -> None:
    await harness.register(max_capacity=8)
    await stepping(harness, "up", ABOVE, **UP, Cooldown=300)
    await harness.pass_time(PERIOD, lambda _: 6.0)
    assert harness.capacity == 2
    await harness.pass_time(60, lambda _: 6.0)
    assert harness.capacity == 2, "the same step again adds nothing while it cools down"
    await harness.pass_time(10, lambda _: 20.0)
    assert harness.capacity == 4, "a step of three, of which one was there"


@scenario
async def test_scaling_in_waits_for_the_cool_down(harness: AutoScalingHarness) -> None:
    await harness.register(max_capacity=8)
    await stepping(harness, "up", ABOVE, **UP, Cooldown=0)
    one_less = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": [
        {"MetricIntervalUpperBound": 0, "ScalingAdjustment": -1}]}  # fmt: skip
    await stepping(harness, "down", BELOW, **one_less, Cooldown=120)
    await harness.pass_time(PERIOD, lambda _: 16.0)
    await harness.pass_time(PERIOD, lambda _: 0.0)
    assert harness.capacity == 3
    await harness.pass_time(110, lambda _: 0.0)
    assert harness.capacity == 3
    await harness.pass_time(20, lambda _: 0.0)
    assert harness.capacity == 2


@scenario
async def test_scaling_during_an_update_waits_and_is_tried_again(harness: AutoScalingHarness) -> None:
    await tracking(harness)
    harness.resources.busy = True
    await harness.pass_time(60, lambda _: 18.0)
    assert harness.capacity == 1
    (waiting,) = await harness.activities(IncludeNotScaledActivities=True)
    assert waiting["NotScaledReasons"] == [
        {"Code": "TargetServicePutResourceAsUnscalable", "CurrentCapacity": 1}
    ]
    harness.resources.busy = False
    await harness.pass_time(20, lambda _: 18.0)
    assert harness.capacity == 4


@scenario
async def test_a_change_that_fails_is_in_the_log_and_is_tried_again(harness: AutoScalingHarness) -> None:
    await tracking(harness)
    harness.resources.broken = True
    await harness.pass_time(40, lambda _: 18.0)
    failed = (await harness.activities())[-1]
    assert failed["StatusCode"] == "Failed"
    assert failed["StatusMessage"].endswith("Reason: no instance can be had")
    harness.resources.broken = False
    await harness.pass_time(20, lambda _: 18.0)
    assert harness.capacity == 4


@scenario
async def test_a_component_at_zero_scales_out_on_a_call_that_finds_no_copy(
    harness: AutoScalingHarness,
) -> None:
    harness.resources.capacities[COMPONENT] = 0
    await harness.register(0, 2, **COMPONENT_TARGET)
    put = await harness.policy(
        "wake",
        "StepScaling",
        target=COMPONENT_TARGET,
        AdjustmentType="ChangeInCapacity",
        StepAdjustments=[{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
    )
    name = {"InferenceComponentName": "alpha"}
    harness.watch.put(
        {"AlarmName": "wake", "AlarmActions": [put["PolicyARN"]], "Namespace": "AWS/SageMaker"}
        | {"MetricName": "NoCapacityInvocationFailures", "Statistic": "Maximum", "Period": 30}
        | {"Dimensions": [{"Name": key, "Value": value} for key, value in name.items()]}
        | {"ComparisonOperator": "GreaterThanOrEqualToThreshold", "Threshold": 1.0, "EvaluationPeriods": 1}
        | {"TreatMissingData": "missing"}
    )
    await harness.pass_time(60)
    assert harness.resources.capacities[COMPONENT] == 0
    harness.watch.publish("AWS/SageMaker", "NoCapacityInvocationFailures", 1.0, name)
    await harness.pass_time(30)
    assert harness.resources.capacities[COMPONENT] == 1
    assert (await harness.activities())[0]["Description"] == "Setting desired copy count to 1."


@scenario
async def test_of_several_policies_the_largest_capacity_wins_and_all_must_agree_to_scale_in(
    harness: AutoScalingHarness,
) -> None:
    await tracking(harness, ScaleInCooldown=0)
    custom = {"MetricName": "Queue", "Namespace": "Own", "Statistic": "Average"}
    await harness.policy("queue", TargetValue=1.0, CustomizedMetricSpecification=custom, ScaleInCooldown=0)

    async def minutes(count: int, requests: float, queue: float) -> None:
        for _ in range(count):
            harness.watch.publish("Own", "Queue", queue, {})
            await harness.pass_time(60, lambda capacity: requests / capacity)

    await minutes(4, 8.0, 3.0)
    assert harness.capacity == 4, "three times as many for the queue"
    await minutes(17, 0.0, 1.0)
    assert harness.capacity == 4, "one policy is content with what is there"
    await minutes(17, 0.0, 0.0)
    assert harness.capacity == 1


@scenario
async def test_schedules_move_the_limits_and_the_capacity_with_them(harness: AutoScalingHarness) -> None:
    await harness.register()
    at = "at(2023-11-14T22:20:00)"  # 400 s after the harness's beginning
    action = {"MinCapacity": 3, "MaxCapacity": 5}
    await harness.call(
        "PutScheduledAction",
        **TARGET,
        ScheduledActionName="day",
        Schedule=at,
        ScalableTargetAction=action,
    )
    await harness.pass_time(390)
    assert harness.capacity == 1
    await harness.pass_time(20)
    assert harness.capacity == 3
    described = await harness.call("DescribeScalableTargets", ServiceNamespace="sagemaker")
    assert described["ScalableTargets"][0]["MinCapacity"] == 3
    (activity,) = await harness.activities()
    assert activity["Cause"] == (
        "scheduled action name day was triggered; minimum capacity was set to 3 and maximum capacity was set "
        "to 5"
    )


@scenario
async def test_a_schedule_that_meets_an_update_is_made_good_afterwards(harness: AutoScalingHarness) -> None:
    await harness.register()
    await harness.call(
        "PutScheduledAction",
        **TARGET,
        ScheduledActionName="night",
        Schedule="rate(1 hour)",
        ScalableTargetAction={"MinCapacity": 2},
    )
    harness.store.target(TARGET).schedules["night"]["CreationTime"] = harness.now - 3000
    harness.resources.busy = True
    await harness.pass_time(900)
    assert harness.capacity == 1
    harness.resources.busy = False
    await harness.pass_time(30)
    assert harness.capacity == 2


@scenario
async def test_state_survives_as_json(harness: AutoScalingHarness) -> None:
    import json

    await tracking(harness)
    await harness.pass_time(40, lambda _: 18.0)
    kept = json.loads(json.dumps(harness.store.dump()))
    again = AutoScalingHarness()
    again.store.load(kept)
    again.watch.alarms = harness.watch.alarms
    for operation in ("DescribeScalableTargets", "DescribeScalingPolicies", "DescribeScalingActivities"):
        assert await again.call(operation, ServiceNamespace="sagemaker") == await harness.call(
            operation, ServiceNamespace="sagemaker"
        )
