"""Scaling stands still while variants change, and the champion is full before it takes all traffic."""

from __future__ import annotations

import pytest

from lambdas.release.aws.scaling import Bounds, FixedFleet, Scaling
from lambdas.release.errors import TopologyFailedError
from tests.support.release_loop import ENDPOINT, NEW, OLD, World

CHAMPION, CHALLENGER = (f"endpoint/{ENDPOINT}/variant/{name}" for name in ("champion", "challenger"))
HELD = {
    "DynamicScalingInSuspended": True,
    "DynamicScalingOutSuspended": True,
    "ScheduledScalingSuspended": True,
}
FREE = dict.fromkeys(HELD, False)


@pytest.fixture
def scaled(world: World) -> World:
    """A champion that scales between 2 and 8 machines."""
    world.autoscaling.scale(CHAMPION, 2, 8)
    return world


def held(world: World) -> bool:
    return world.autoscaling.targets[CHAMPION].get("SuspendedState") == HELD


def split(world: World) -> None:
    """A test at equal shares, in which both fleets have been scaled to their part of the load."""
    world.experiment()
    world.release("set_share", share=0.5, champion=OLD, challenger=NEW, stage=1)
    world.sagemaker.counts = {"champion": 3, "challenger": 2}


def test_given_a_start_then_scaling_is_held_until_the_topology_has_settled(scaled: World) -> None:
    scaled.lock()
    scaled.release("start_experiment", champion=OLD, challenger=NEW)
    assert held(scaled)
    scaled.stack.finish()
    assert scaled.release("await_topology", phase="ab")["settled"]
    assert scaled.autoscaling.targets[CHAMPION]["SuspendedState"] == FREE


def test_given_a_share_then_the_challenger_scales_as_the_champion_does_up_to_half(scaled: World) -> None:
    scaled.experiment()
    scaled.release("set_share", share=0.1, champion=OLD, challenger=NEW, stage=0)
    scaled.release("set_share", share=0.5, champion=OLD, challenger=NEW, stage=1)

    assert scaled.autoscaling.targets[CHALLENGER] == {"MinCapacity": 2, "MaxCapacity": 4}
    (policy,) = scaled.autoscaling.policies[CHALLENGER]
    assert policy["PolicyName"] == "track-challenger"
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 44.0


def test_given_a_promotion_then_the_champion_has_both_fleets_machines_before_it_takes_the_traffic(
    scaled: World,
) -> None:
    split(scaled)
    scaled.release("promote", champion=OLD, challenger=NEW)

    first, second = scaled.sagemaker.received("update_endpoint_weights_and_capacities")[-2:]
    assert first["DesiredWeightsAndCapacities"] == [
        {"VariantName": "champion", "DesiredWeight": 0.5, "DesiredInstanceCount": 5}
    ]
    assert {one["VariantName"]: one["DesiredWeight"] for one in second["DesiredWeightsAndCapacities"]} == {
        "champion": 1.0,
        "challenger": 0.0,
    }
    assert scaled.sagemaker.counts["champion"] == 5
    assert held(scaled)


def test_given_a_promotion_that_is_asked_again_then_the_champion_grows_once(scaled: World) -> None:
    split(scaled)
    for _ in range(3):
        scaled.release("promote", champion=OLD, challenger=NEW)
    assert scaled.sagemaker.counts["champion"] == 5


def test_given_a_large_test_then_the_champion_grows_to_its_maximum_and_no_further(scaled: World) -> None:
    split(scaled)
    scaled.sagemaker.counts = {"champion": 6, "challenger": 4}
    scaled.release("promote", champion=OLD, challenger=NEW)
    assert scaled.sagemaker.counts["champion"] == 8


def test_given_a_retirement_then_the_challengers_target_goes_before_the_variant(scaled: World) -> None:
    split(scaled)
    scaled.release("promote", champion=OLD, challenger=NEW)
    scaled.stack.finish()
    scaled.release("await_topology", phase="ab")
    scaled.release("retire", challenger=NEW)
    assert CHALLENGER not in scaled.autoscaling.targets
    assert held(scaled)
    scaled.stack.finish()
    assert scaled.release("await_topology", phase="steady")["settled"]
    assert scaled.autoscaling.targets[CHAMPION] == {
        "MinCapacity": 2,
        "MaxCapacity": 8,
        "SuspendedState": FREE,
    }


def test_given_a_harmful_challenger_then_callers_leave_it_before_machines_are_counted(scaled: World) -> None:
    split(scaled)
    scaled.sagemaker.status, scaled.sagemaker.rests_after = "Updating", 0
    with pytest.raises(Exception, match="still Updating"):
        scaled.release("restore", champion=OLD)
    assert scaled.split() == {"champion": (1.0, OLD["version"])}

    scaled.sagemaker.status = "InService"
    scaled.release("restore", champion=OLD)
    assert scaled.sagemaker.counts["champion"] == 5
    assert CHALLENGER not in scaled.autoscaling.targets
    scaled.stack.finish()
    assert scaled.release("await_topology", phase="steady")["settled"]
    assert not held(scaled)


def test_given_an_update_that_failed_then_scaling_stays_held_until_the_champion_is_restored(
    scaled: World,
) -> None:
    scaled.lock()
    scaled.release("start_experiment", champion=OLD, challenger=NEW)
    scaled.stack.roll_back("Endpoint", "It did not start.")
    with pytest.raises(TopologyFailedError):
        scaled.release("await_topology", phase="ab")
    assert held(scaled)
    scaled.release("restore", champion=OLD)
    assert scaled.release("await_topology", phase="steady")["settled"]
    assert not held(scaled)


def test_given_a_fleet_of_fixed_number_then_nothing_is_registered(world: World) -> None:
    split(world)
    world.release("promote", champion=OLD, challenger=NEW)
    assert world.autoscaling.received("register_scalable_target") == []
    assert world.sagemaker.counts["champion"] == 3
    fixed = FixedFleet()
    fixed.hold()
    fixed.let_go()
    fixed.follow_challenger()
    fixed.leave_challenger()
    assert (fixed.bounds(), fixed.held()) == (None, False)


def test_a_target_that_somebody_took_away_first_is_no_error(scaled: World) -> None:
    scaling = Scaling(ENDPOINT, scaled.autoscaling)
    assert scaling.bounds() == Bounds(2, 8)
    scaling.leave_challenger()
    assert scaled.autoscaling.received("deregister_scalable_target") == []


def test_given_a_template_from_before_there_were_shapes_then_the_rollout_is_plain(world: World) -> None:
    world.stack.shape = ""
    del world.stack.parameters["DeploymentGuardrailsVersion"]
    world.stack.parameters["Rollout"] = "guarded"
    world.lock()
    world.release("start_experiment", champion=OLD, challenger=NEW)
    assert world.stack.parameters["Rollout"] == "plain"
