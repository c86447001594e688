"""Scaling stands still while variants change, and the champion is full before it takes all traffic."""

from __future__ import annotations

import pytest

from lambdas.release.aws.scaling import Bounds, EndpointScaling, FixedFleet
from lambdas.release.errors import StackBusyError, TopologyFailedError
from tests.support.release_loop import ENDPOINT, NEW, OLD, ReleaseHarness

CHAMPION, CHALLENGER = (f"endpoint/{ENDPOINT}/variant/{name}" for name in ("champion", "challenger"))
HELD = {
    "DynamicScalingInSuspended": True,
    "DynamicScalingOutSuspended": True,
    "ScheduledScalingSuspended": True,
}
FREE = dict.fromkeys(HELD, False)


@pytest.fixture
def scaled(release: ReleaseHarness) -> ReleaseHarness:
    """A champion that scales between 2 and 8 machines."""
    release.autoscaling.scale(CHAMPION, 2, 8)
    return release


def held(release: ReleaseHarness) -> bool:
    return release.autoscaling.targets[CHAMPION].get("SuspendedState") == HELD


def split(release: ReleaseHarness) -> None:
    """A test at equal shares, in which both fleets have been scaled to their part of the load."""
    release.experiment()
    release.invoke("set_share", share=0.5, champion=OLD, challenger=NEW, stage=1)
    release.sagemaker.counts = {"champion": 3, "challenger": 2}


def test_given_a_start_then_scaling_is_held_until_the_topology_has_settled(scaled: ReleaseHarness) -> None:
    scaled.lock()
    scaled.invoke("start_experiment", champion=OLD, challenger=NEW)
    assert held(scaled)
    scaled.stack.finish()
    assert scaled.invoke("await_topology", phase="ab")["settled"]
    assert scaled.autoscaling.targets[CHAMPION]["SuspendedState"] == FREE


def test_given_a_share_then_the_challenger_scales_as_the_champion_does_up_to_half(
    scaled: ReleaseHarness,
) -> None:
    scaled.experiment()
    scaled.invoke("set_share", share=0.1, champion=OLD, challenger=NEW, stage=0)
    scaled.invoke("set_share", share=0.5, champion=OLD, challenger=NEW, stage=1)

    assert scaled.autoscaling.targets[CHALLENGER] == {"MinCapacity": 2, "MaxCapacity": 4}
    (policy,) = scaled.autoscaling.policies[CHALLENGER]
    assert policy["PolicyName"] == "track-challenger"
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 44.0


def test_given_a_promotion_then_the_champion_has_both_fleets_machines_before_it_takes_the_traffic(
    scaled: ReleaseHarness,
) -> None:
    split(scaled)
    scaled.invoke("promote", champion=OLD, challenger=NEW)

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


def test_given_a_promotion_that_is_asked_again_then_the_champion_grows_once(scaled: ReleaseHarness) -> None:
    split(scaled)
    scaled.stack.status = "UPDATE_IN_PROGRESS"  # a deployment
    for _ in range(2):
        with pytest.raises(StackBusyError):
            scaled.invoke("promote", champion=OLD, challenger=NEW)
    scaled.stack.finish()
    scaled.invoke("promote", champion=OLD, challenger=NEW)
    assert scaled.sagemaker.counts["champion"] == 5


def test_given_a_large_test_then_the_champion_grows_to_its_maximum_and_no_further(
    scaled: ReleaseHarness,
) -> None:
    split(scaled)
    scaled.sagemaker.counts = {"champion": 6, "challenger": 4}
    scaled.invoke("promote", champion=OLD, challenger=NEW)
    assert scaled.sagemaker.counts["champion"] == 8


def test_given_a_retirement_then_the_challengers_target_goes_before_the_variant(
    scaled: ReleaseHarness,
) -> None:
    split(scaled)
    scaled.invoke("promote", champion=OLD, challenger=NEW)
    scaled.stack.finish()
    scaled.invoke("await_topology", phase="ab")
    scaled.invoke("retire", challenger=NEW)
    assert CHALLENGER not in scaled.autoscaling.targets
    assert held(scaled)
    scaled.stack.finish()
    assert scaled.invoke("await_topology", phase="steady")["settled"]
    assert scaled.autoscaling.targets[CHAMPION] == {
        "MinCapacity": 2,
        "MaxCapacity": 8,
        "SuspendedState": FREE,
    }


def test_given_a_harmful_challenger_then_callers_leave_it_before_machines_are_counted(
    scaled: ReleaseHarness,
) -> None:
    split(scaled)
    scaled.sagemaker.status, scaled.sagemaker.rests_after = "Updating", 0
    with pytest.raises(Exception, match="still Updating"):
        scaled.invoke("restore", champion=OLD)
    assert scaled.split() == {"champion": (1.0, OLD["version"])}

    scaled.sagemaker.status = "InService"
    scaled.invoke("restore", champion=OLD)
    assert scaled.sagemaker.counts["champion"] == 5
    assert CHALLENGER not in scaled.autoscaling.targets
    scaled.stack.finish()
    assert scaled.invoke("await_topology", phase="steady")["settled"]
    assert not held(scaled)


def test_given_an_update_that_failed_then_scaling_stays_held_until_the_champion_is_restored(
    scaled: ReleaseHarness,
) -> None:
    scaled.lock()
    scaled.invoke("start_experiment", champion=OLD, challenger=NEW)
    scaled.stack.roll_back("Endpoint", "It did not start.")
    with pytest.raises(TopologyFailedError):
        scaled.invoke("await_topology", phase="ab")
    assert held(scaled)
    scaled.invoke("restore", champion=OLD)
    assert scaled.invoke("await_topology", phase="steady")["settled"]
    assert not held(scaled)


def test_given_a_fleet_of_fixed_number_then_nothing_is_registered(release: ReleaseHarness) -> None:
    split(release)
    release.invoke("promote", champion=OLD, challenger=NEW)
    assert release.autoscaling.received("register_scalable_target") == []
    assert release.sagemaker.counts["champion"] == 3
    fixed = FixedFleet()
    fixed.hold()
    fixed.let_go()
    fixed.follow_challenger()
    fixed.leave_challenger()
    assert (fixed.bounds(), fixed.held()) == (None, False)


def test_a_target_that_somebody_took_away_first_is_no_error(scaled: ReleaseHarness) -> None:
    scaling = EndpointScaling(ENDPOINT, scaled.autoscaling)
    assert scaling.bounds() == Bounds(2, 8)
    scaling.leave_challenger()
    assert scaled.autoscaling.received("deregister_scalable_target") == []


def test_given_a_template_from_before_there_were_shapes_then_the_rollout_is_plain(
    release: ReleaseHarness,
) -> None:
    release.stack.shape = ""
    del release.stack.parameters["DeploymentGuardrailsVersion"]
    release.stack.parameters["Rollout"] = "guarded"
    release.lock()
    release.invoke("start_experiment", champion=OLD, challenger=NEW)
    assert release.stack.parameters["Rollout"] == "plain"
