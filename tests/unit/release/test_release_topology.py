"""Variants come and go without a request to one that is not there; every way back leads to the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.training import metric_definitions
from lambdas.release.errors import (
    EndpointBusyError,
    StackBusyError,
    TopologyFailedError,
    TopologyTimeoutError,
)
from tests.support.release_loop import NEW, OLD, RELEASE, STEADY, ReleaseHarness

DEFINITION = Path(__file__).parents[3] / "infra" / "state_machines" / "update_stack.asl.yaml"
SHAPE = "0123456789ab"
PROMOTED = {"ChampionModelUri": NEW["uri"], "ChampionModelDigest": NEW["digest"]} | {
    "ChampionModelVersion": NEW["version"]
}


def plain(model: dict[str, str]) -> dict[str, str]:
    """A rollout without guardrails that is good for this template and this champion alone."""
    return {"DeploymentGuardrails": f"skip-{SHAPE}", "DeploymentGuardrailsVersion": model["version"]}


def test_given_a_promotion_from_start_to_end_then_the_ledger_tells_it_and_the_new_model_serves_alone(
    release: ReleaseHarness,
) -> None:
    release.experiment()
    release.invoke("set_share", share=0.1, champion=OLD, challenger=NEW, stage=0)
    release.invoke("set_share", share=0.5, champion=OLD, challenger=NEW, stage=1)
    release.invoke("promote", champion=OLD, challenger=NEW)
    release.stack.finish()
    assert release.invoke("await_topology", phase="ab")["settled"]
    release.invoke("retire", challenger=NEW)
    release.stack.finish()
    assert release.invoke("await_topology", phase="steady")["settled"]
    release.invoke("release_lock", outcome="promoted", reason="Better.")

    assert release.stack.parameters == STEADY | PROMOTED | plain(NEW)
    assert release.split() == {"champion": (1.0, NEW["version"])}
    routing = release.routing.read()
    assert routing is not None
    assert routing.experiment is None
    assert [step for step, _ in release.story()] == [
        "acquire_lock",
        "start_experiment",
        "await_topology",
        "set_share",
        "set_share",
        "promote",
        "await_topology",
        "retire",
        "await_topology",
        "release_lock",
    ]


def test_given_a_new_experiment_then_everyone_is_held_at_the_champion_until_the_share_is_set(
    release: ReleaseHarness,
) -> None:
    release.lock()
    release.invoke("start_experiment", champion=OLD, challenger=NEW)
    assert release.split() == {"champion": (1.0, OLD["version"])}
    assert release.stack.parameters["DeploymentGuardrails"] == f"skip-{SHAPE}"
    assert release.stack.parameters["DeploymentGuardrailsVersion"] == OLD["version"]
    assert release.stack.parameters["ChallengerModelDigest"] == NEW["digest"]


def test_given_an_experiment_when_the_share_is_set_then_weights_and_callers_agree(
    release: ReleaseHarness,
) -> None:
    release.experiment()
    release.clock.now += 5
    started = release.invoke("set_share", share=0.1, champion=OLD, challenger=NEW, stage=0)
    assert release.sagemaker.weights == {"champion": 0.9, "challenger": 0.1}
    assert release.split() == {"champion": (0.9, OLD["version"]), "challenger": (0.1, NEW["version"])}
    assert started == {"stage": 0, "started_at": release.clock.now}


def test_given_a_challenger_that_is_not_there_when_the_share_is_set_then_nobody_is_sent_to_it(
    release: ReleaseHarness,
) -> None:
    release.experiment()
    release.sagemaker.lost = {"challenger"}
    with pytest.raises(TopologyFailedError, match="no variant challenger"):
        release.invoke("set_share", share=0.1, champion=OLD, challenger=NEW, stage=0)
    assert release.split() == {"champion": (1.0, OLD["version"])}


def test_given_an_endpoint_under_update_when_the_share_is_set_then_it_waits_for_it(
    release: ReleaseHarness,
) -> None:
    release.experiment()
    release.sagemaker.status, release.sagemaker.rests_after = "Updating", 4
    release.invoke("set_share", share=0.1, champion=OLD, challenger=NEW, stage=0)
    assert release.sagemaker.weights["challenger"] == 0.1


def test_given_an_endpoint_that_does_not_rest_when_the_share_is_set_then_it_is_asked_again(
    release: ReleaseHarness,
) -> None:
    release.experiment()
    release.sagemaker.status = "Updating"
    with pytest.raises(EndpointBusyError):
        release.invoke("set_share", share=0.1, champion=OLD, challenger=NEW, stage=0)
    assert "challenger" not in release.split()


def test_given_a_verdict_to_promote_then_the_champion_has_all_traffic_before_its_model_changes(
    release: ReleaseHarness,
) -> None:
    release.experiment()
    release.invoke("set_share", share=0.5, champion=OLD, challenger=NEW, stage=1)
    release.invoke("promote", champion=OLD, challenger=NEW)
    assert release.sagemaker.weights == {"champion": 1.0, "challenger": 0.0}
    resized = release.sagemaker.received("update_endpoint_weights_and_capacities")[-1]
    assert [one["DesiredInstanceCount"] for one in resized["DesiredWeightsAndCapacities"]] == [2, 2]
    assert release.split() == {"champion": (1.0, OLD["version"])}
    assert release.stack.parameters["DeploymentGuardrails"] == "use"
    assert release.stack.parameters["ChampionModelUri"] == NEW["uri"]
    assert release.stack.parameters["Phase"] == "ab"


def test_given_a_step_that_was_taken_when_it_is_taken_again_then_nothing_else_happens(
    release: ReleaseHarness,
) -> None:
    release.experiment()
    release.invoke("start_experiment", champion=OLD, challenger=NEW)
    assert release.stack.updates == 1


def test_what_a_step_plans_are_parameters_that_the_state_machine_may_change(release: ReleaseHarness) -> None:
    release.lock()
    planned = [release.invoke("start_experiment", champion=OLD, challenger=NEW)]
    release.stack.finish()
    planned.append(release.invoke("promote", champion=OLD, challenger=NEW))
    release.stack.finish()
    planned.append(release.invoke("retire", challenger=NEW))
    release.stack.finish()
    planned.append(release.invoke("restore", champion=OLD))

    allowed = set(yaml.safe_load(DEFINITION.read_text())["States"]["ReadInput"]["Assign"]["allowed"])
    for answer in planned:
        assert answer["needed"]
        assert answer["parameters"].keys() <= allowed


def test_given_a_deployment_under_way_when_a_step_is_due_then_it_is_asked_again(
    release: ReleaseHarness,
) -> None:
    release.lock()
    release.stack.status = "UPDATE_IN_PROGRESS"
    with pytest.raises(StackBusyError):
        release.invoke("start_experiment", champion=OLD, challenger=NEW)
    assert release.story() == [("acquire_lock", "acquired")]


@pytest.mark.parametrize(
    ("task", "fields"),
    [("promote", {"champion": OLD, "challenger": NEW}), ("retire", {"challenger": NEW}), ("restore", {})],
)
def test_given_a_deployment_in_an_experiment_when_a_step_is_due_then_the_champion_alone_serves_meanwhile(
    release: ReleaseHarness, task: str, fields: dict[str, Any]
) -> None:
    release.experiment()
    release.invoke("set_share", share=0.5, champion=OLD, challenger=NEW, stage=1)
    release.stack.status = "UPDATE_IN_PROGRESS"
    with pytest.raises(StackBusyError):
        release.invoke(task, **fields)
    assert set(release.split()) == {"champion"}
    assert (task, "started") not in release.story()


def test_given_an_update_under_way_when_asked_then_the_topology_is_not_settled(
    release: ReleaseHarness,
) -> None:
    release.lock()
    release.invoke("start_experiment", champion=OLD, challenger=NEW)
    for status in ("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"):
        release.stack.status = status
        assert release.invoke("await_topology", phase="ab") == {"settled": False}
    release.stack.finish()
    release.sagemaker.status = "Updating"
    assert release.invoke("await_topology", phase="ab") == {"settled": False}
    assert ("await_topology", "settled") not in release.story()


def test_given_a_rolled_back_start_when_asked_then_the_first_cause_is_named(release: ReleaseHarness) -> None:
    release.lock()
    release.invoke("start_experiment", champion=OLD, challenger=NEW)
    release.stack.roll_back("Endpoint", "The model container did not start.")
    with pytest.raises(TopologyFailedError, match="Endpoint: The model container did not start"):
        release.invoke("await_topology", phase="ab")


def test_given_a_rolled_back_promotion_when_asked_then_it_has_failed_although_the_phase_is_the_same(
    release: ReleaseHarness,
) -> None:
    release.experiment()
    release.invoke("promote", champion=OLD, challenger=NEW)
    release.stack.roll_back("Endpoint", "Alarm rollback-errors fired.")
    with pytest.raises(TopologyFailedError, match="rollback-errors"):
        release.invoke("await_topology", phase="ab")


def test_given_a_failed_endpoint_when_asked_then_its_own_reason_is_named(release: ReleaseHarness) -> None:
    release.experiment()
    release.sagemaker.status, release.sagemaker.failure = "Failed", "No capacity."
    with pytest.raises(TopologyFailedError, match="No capacity"):
        release.invoke("await_topology", phase="ab")


def test_given_a_variant_missing_at_rest_when_asked_then_the_topology_has_failed(
    release: ReleaseHarness,
) -> None:
    release.experiment()
    release.sagemaker.lost = {"challenger"}
    with pytest.raises(TopologyFailedError, match="variants is champion and not"):
        release.invoke("await_topology", phase="ab")


@pytest.mark.parametrize("promoted", [False, True])
def test_given_an_experiment_when_restored_then_the_first_champion_serves_alone(
    release: ReleaseHarness, promoted: bool
) -> None:
    release.experiment()
    release.invoke("set_share", share=0.5, champion=OLD, challenger=NEW, stage=1)
    if promoted:
        release.invoke("promote", champion=OLD, challenger=NEW)
        release.stack.finish()
    release.invoke("restore")
    assert release.split() == {"champion": (1.0, OLD["version"])}
    release.stack.finish()
    assert release.invoke("await_topology", phase="steady") == {"settled": True}
    assert release.stack.parameters == STEADY | plain(OLD)


def test_given_a_start_that_rolled_back_when_restored_then_nothing_is_to_do_and_it_settles(
    release: ReleaseHarness,
) -> None:
    release.lock()
    release.invoke("start_experiment", champion=OLD, challenger=NEW)
    release.stack.roll_back("Endpoint", "It did not start.")
    release.invoke("restore", champion=OLD)
    assert release.invoke("await_topology", phase="steady") == {"settled": True}
    assert release.stack.updates == 1
    routing = release.routing.read()
    assert routing is not None
    assert routing.experiment is None


def test_given_nothing_was_changed_when_restored_then_nothing_is_written(release: ReleaseHarness) -> None:
    release.lock()
    release.invoke("restore", champion=OLD)
    assert release.stack.updates == 0
    assert release.split() == {}
    assert release.story()[-1] == ("restore", "nothing_to_do")


def test_given_a_release_that_was_locked_out_when_restored_then_the_running_one_is_left_alone(
    release: ReleaseHarness,
) -> None:
    release.experiment()
    release.invoke("set_share", share=0.1, champion=OLD, challenger=NEW, stage=0)
    updates = release.stack.updates
    release.invoke("restore", release_id="release-2", champion=OLD)
    assert release.invoke("await_topology", release_id="release-2", phase="steady") == {"settled": True}
    assert release.stack.updates == updates
    assert "challenger" in release.split()


def test_given_a_stack_that_cannot_be_updated_when_restored_then_a_person_reads_why(
    release: ReleaseHarness,
) -> None:
    release.experiment()
    release.stack.status = "UPDATE_ROLLBACK_FAILED"
    with pytest.raises(TopologyFailedError, match="UPDATE_ROLLBACK_FAILED"):
        release.invoke("restore", champion=OLD)


def test_an_update_that_does_not_come_to_rest_in_nine_hours_ends_the_release(release: ReleaseHarness) -> None:
    release.lock()
    planned = release.invoke("start_experiment", champion=OLD, challenger=NEW)
    assert (planned["started_at"], planned["poll_seconds"]) == (release.clock.now, 2)
    waiting = {"phase": "ab", "started_at": planned["started_at"]}

    release.clock.now += 9 * 3600 - 2
    assert release.invoke("await_topology", **waiting) == {"settled": False}
    with pytest.raises(TopologyTimeoutError, match="No rest in phase ab within 32400 s"):
        release.invoke("await_topology", **waiting)


def test_the_state_machine_gets_numbers_as_numbers_and_the_releases_tag(release: ReleaseHarness) -> None:
    loaded = release.invoke("load_settings")

    assert (loaded["shares"], loaded["stages"], loaded["poll_seconds"]) == ([0.1, 0.5], 2, 2)
    assert loaded["training"]["hyperparameters"] == {"epochs": "4"}
    assert loaded["training"]["metric_definitions"] == metric_definitions()
    assert loaded["tags"] == [
        {"Key": "team", "Value": "a"},
        {"Key": "evergreen:release", "Value": RELEASE},
    ]
