"""What policies and schedules do to a capacity while load and time go by."""

from __future__ import annotations

from tests.support.autoscaling import COMPONENT, COMPONENT_TARGET, RESOURCE, TARGET, World, play

PREDEFINED = {"PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"}
PERIOD = 10


async def tracking(world: World, **more: object) -> None:
    await world.register()
    await world.policy(TargetValue=5.0, PredefinedMetricSpecification=PREDEFINED, **more)


async def stepping(world: World, name: str, alarm: dict, target: dict = TARGET, **policy: object) -> None:
    """A step policy and the alarm whose action it is."""
    put = await world.policy(name, "StepScaling", target=target, **policy)
    metric = {"Namespace": "AWS/SageMaker", "MetricName": "ConcurrentRequestsPerModel"}
    dimensions = [{"Name": "EndpointName", "Value": "e"}, {"Name": "VariantName", "Value": "champion"}]
    world.watch.put(
        metric
        | {"AlarmName": f"alarm-{name}", "AlarmActions": [put["PolicyARN"]], "Dimensions": dimensions}
        | {"Statistic": "Maximum", "Period": PERIOD, "EvaluationPeriods": 1}
        | alarm
    )


@play
async def test_a_step_load_is_followed_within_three_periods_and_left_again(world: World) -> None:
    await tracking(world, ScaleInCooldown=60)
    await world.pass_time(60, lambda _: 2.0)
    assert world.capacity == 1
    await world.pass_time(3 * PERIOD, lambda capacity: 18.0 / capacity)
    assert world.capacity == 4  # 18 requests at 5 each
    await world.pass_time(300, lambda capacity: 18.0 / capacity)
    assert world.capacity == 4
    await world.pass_time(890, lambda _: 0.0)
    assert world.capacity == 4, "capacity leaves later than it comes"
    await world.pass_time(20, lambda _: 0.0)
    assert world.capacity == 1
    newest, oldest = await world.activities()
    assert oldest["Description"] == "Setting desired instance count to 4."
    assert oldest["StatusCode"] == "Successful"
    assert oldest["Cause"].startswith(f"monitor alarm TargetTracking-{RESOURCE}-AlarmHigh-")
    assert oldest["Cause"].endswith("in state ALARM triggered policy p")
    assert newest["Description"] == "Setting desired instance count to 1."


@play
async def test_the_limits_hold_and_say_so(world: World) -> None:
    await tracking(world)
    await world.pass_time(60, lambda _: 500.0)
    assert world.capacity == 4
    await world.pass_time(600, lambda _: 500.0)
    (newest, _) = await world.activities(IncludeNotScaledActivities=True)
    assert newest["NotScaledReasons"] == [
        {"Code": "AlreadyAtMaxCapacity", "CurrentCapacity": 4, "MaxCapacity": 4}
    ]
    assert len(await world.activities()) == 1


@play
async def test_a_policy_that_may_not_scale_in_has_no_low_alarm(world: World) -> None:
    await tracking(world, DisableScaleIn=True)
    assert [name.split("-")[-6] for name in world.watch.alarms] == ["AlarmHigh"]
    await world.pass_time(40, lambda capacity: 18.0 / capacity)
    await world.pass_time(1200, lambda _: 0.0)
    assert world.capacity == 4


@play
async def test_suspended_directions_do_nothing_and_come_back(world: World) -> None:
    await tracking(world)
    await world.call("RegisterScalableTarget", **TARGET, SuspendedState={"DynamicScalingOutSuspended": True})
    await world.pass_time(60, lambda _: 18.0)
    assert world.capacity == 1
    await world.call("RegisterScalableTarget", **TARGET, SuspendedState={"DynamicScalingOutSuspended": False})
    await world.pass_time(20, lambda _: 18.0)
    assert world.capacity == 4


UP = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": [
    {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 10, "ScalingAdjustment": 1},
    {"MetricIntervalLowerBound": 10, "ScalingAdjustment": 3},
]}  # fmt: skip
DOWN = {"AdjustmentType": "ExactCapacity", "StepAdjustments": [
    {"MetricIntervalUpperBound": 0, "ScalingAdjustment": 1},
]}  # fmt: skip
ABOVE = {"ComparisonOperator": "GreaterThanThreshold", "Threshold": 5.0}
BELOW = {"ComparisonOperator": "LessThanThreshold", "Threshold": 1.0}


@play
async def test_step_policies_follow_a_load_up_and_down(world: World) -> None:
    await world.register(most=8)
    await stepping(world, "up", ABOVE, **UP, Cooldown=0)
    await stepping(world, "down", BELOW, **DOWN, Cooldown=0)
    await world.pass_time(PERIOD, lambda _: 16.0)
    assert world.capacity == 4
    await world.pass_time(PERIOD, lambda _: 0.0)
    assert world.capacity == 1
    described = await world.call("DescribeScalingPolicies", ServiceNamespace="sagemaker", PolicyNames=["up"])
    (policy,) = described["ScalingPolicies"]
    assert [alarm["AlarmName"] for alarm in policy["Alarms"]] == ["alarm-up"]


@play
async def test_what_a_cooling_step_added_counts_towards_a_larger_one(world: World) -> None:
    await world.register(most=8)
    await stepping(world, "up", ABOVE, **UP, Cooldown=300)
    await world.pass_time(PERIOD, lambda _: 6.0)
    assert world.capacity == 2
    await world.pass_time(60, lambda _: 6.0)
    assert world.capacity == 2, "the same step again adds nothing while it cools down"
    await world.pass_time(10, lambda _: 20.0)
    assert world.capacity == 4, "a step of three, of which one was there"


@play
async def test_scaling_in_waits_for_the_cool_down(world: World) -> None:
    await world.register(most=8)
    await stepping(world, "up", ABOVE, **UP, Cooldown=0)
    one_less = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": [
        {"MetricIntervalUpperBound": 0, "ScalingAdjustment": -1}]}  # fmt: skip
    await stepping(world, "down", BELOW, **one_less, Cooldown=120)
    await world.pass_time(PERIOD, lambda _: 16.0)
    await world.pass_time(PERIOD, lambda _: 0.0)
    assert world.capacity == 3
    await world.pass_time(110, lambda _: 0.0)
    assert world.capacity == 3
    await world.pass_time(20, lambda _: 0.0)
    assert world.capacity == 2


@play
async def test_scaling_during_an_update_waits_and_is_tried_again(world: World) -> None:
    await tracking(world)
    world.fleets.busy = True
    await world.pass_time(60, lambda _: 18.0)
    assert world.capacity == 1
    (waiting,) = await world.activities(IncludeNotScaledActivities=True)
    assert waiting["NotScaledReasons"] == [
        {"Code": "TargetServicePutResourceAsUnscalable", "CurrentCapacity": 1}
    ]
    world.fleets.busy = False
    await world.pass_time(20, lambda _: 18.0)
    assert world.capacity == 4


@play
async def test_a_change_that_fails_is_in_the_log_and_is_tried_again(world: World) -> None:
    await tracking(world)
    world.fleets.broken = True
    await world.pass_time(40, lambda _: 18.0)
    failed = (await world.activities())[-1]
    assert failed["StatusCode"] == "Failed"
    assert failed["StatusMessage"].endswith("Reason: no instance can be had")
    world.fleets.broken = False
    await world.pass_time(20, lambda _: 18.0)
    assert world.capacity == 4


@play
async def test_a_sleeping_component_is_woken_by_a_call_that_finds_no_copy(world: World) -> None:
    world.fleets.capacities[COMPONENT] = 0
    await world.register(0, 2, **COMPONENT_TARGET)
    put = await world.policy(
        "wake",
        "StepScaling",
        target=COMPONENT_TARGET,
        AdjustmentType="ChangeInCapacity",
        StepAdjustments=[{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
    )
    name = {"InferenceComponentName": "alpha"}
    world.watch.put(
        {"AlarmName": "wake", "AlarmActions": [put["PolicyARN"]], "Namespace": "AWS/SageMaker"}
        | {"MetricName": "NoCapacityInvocationFailures", "Statistic": "Maximum", "Period": 30}
        | {"Dimensions": [{"Name": key, "Value": value} for key, value in name.items()]}
        | {"ComparisonOperator": "GreaterThanOrEqualToThreshold", "Threshold": 1.0, "EvaluationPeriods": 1}
        | {"TreatMissingData": "missing"}
    )
    await world.pass_time(60)
    assert world.fleets.capacities[COMPONENT] == 0
    world.watch.publish("AWS/SageMaker", "NoCapacityInvocationFailures", 1.0, name)
    await world.pass_time(30)
    assert world.fleets.capacities[COMPONENT] == 1
    assert (await world.activities())[0]["Description"] == "Setting desired copy count to 1."


@play
async def test_of_several_policies_the_largest_wish_wins_and_all_must_agree_to_shrink(world: World) -> None:
    await tracking(world, ScaleInCooldown=0)
    custom = {"MetricName": "Queue", "Namespace": "Own", "Statistic": "Average"}
    await world.policy("queue", TargetValue=1.0, CustomizedMetricSpecification=custom, ScaleInCooldown=0)

    async def minutes(count: int, requests: float, queue: float) -> None:
        for _ in range(count):
            world.watch.publish("Own", "Queue", queue, {})
            await world.pass_time(60, lambda capacity: requests / capacity)

    await minutes(4, 8.0, 3.0)
    assert world.capacity == 4, "three times as many for the queue"
    await minutes(17, 0.0, 1.0)
    assert world.capacity == 4, "one policy is content with what is there"
    await minutes(17, 0.0, 0.0)
    assert world.capacity == 1


@play
async def test_schedules_move_the_limits_and_the_capacity_with_them(world: World) -> None:
    await world.register()
    at = "at(2023-11-14T22:20:00)"  # 400 s after the world's beginning
    action = {"MinCapacity": 3, "MaxCapacity": 5}
    await world.call(
        "PutScheduledAction", **TARGET, ScheduledActionName="day", Schedule=at, ScalableTargetAction=action
    )
    await world.pass_time(390)
    assert world.capacity == 1
    await world.pass_time(20)
    assert world.capacity == 3
    described = await world.call("DescribeScalableTargets", ServiceNamespace="sagemaker")
    assert described["ScalableTargets"][0]["MinCapacity"] == 3
    (activity,) = await world.activities()
    assert activity["Cause"] == (
        "scheduled action name day was triggered; minimum capacity was set to 3 and maximum capacity was set "
        "to 5"
    )


@play
async def test_a_schedule_that_meets_an_update_is_made_good_afterwards(world: World) -> None:
    await world.register()
    await world.call(
        "PutScheduledAction",
        **TARGET,
        ScheduledActionName="night",
        Schedule="rate(1 hour)",
        ScalableTargetAction={"MinCapacity": 2},
    )
    world.store.target(TARGET).schedules["night"]["CreationTime"] = world.now - 3000
    world.fleets.busy = True
    await world.pass_time(900)
    assert world.capacity == 1
    world.fleets.busy = False
    await world.pass_time(30)
    assert world.capacity == 2


@play
async def test_state_survives_as_json(world: World) -> None:
    import json

    await tracking(world)
    await world.pass_time(40, lambda _: 18.0)
    kept = json.loads(json.dumps(world.store.dump()))
    again = World()
    again.store.load(kept)
    again.watch.alarms = world.watch.alarms
    for operation in ("DescribeScalableTargets", "DescribeScalingPolicies", "DescribeScalingActivities"):
        assert await again.call(operation, ServiceNamespace="sagemaker") == await world.call(
            operation, ServiceNamespace="sagemaker"
        )
