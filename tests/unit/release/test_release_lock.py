"""One release at a time, and a lock that outlives nobody."""

from __future__ import annotations

import json

import pytest

from lambdas.aws.dynamodb import to_item
from lambdas.release.errors import BadInputError, LockedError, LockLostError, StackBusyError
from tests.support.release_loop import ENDPOINT, NEW, OLD, RELEASE, STACK, World


def test_given_a_free_endpoint_when_a_release_starts_then_it_learns_what_serves(world: World) -> None:
    assert world.lock() == {"champion": OLD, "endpoint_name": ENDPOINT, "serving_stack": STACK}
    assert world.story() == [("acquire_lock", "acquired")]


def test_given_a_running_release_when_another_starts_then_it_is_told_which_one_holds_the_lock(
    world: World,
) -> None:
    world.lock()
    with pytest.raises(LockedError, match=RELEASE):
        world.lock("release-2")
    assert world.story("release-2") == [("acquire_lock", "failed")]


@pytest.mark.parametrize("status", ["FAILED", "ABORTED", "TIMED_OUT", "SUCCEEDED", None])
def test_given_a_holder_that_no_longer_runs_when_a_release_starts_then_it_takes_the_lock_over(
    world: World, status: str | None
) -> None:
    world.lock()
    if status is None:
        del world.workflow.executions[f"arn:{RELEASE}"]
    else:
        world.workflow.executions[f"arn:{RELEASE}"] = status
    world.lock("release-2")
    assert world.story("release-2") == [("acquire_lock", "taken_over")]
    assert RELEASE in world.rows("release-2")[0]["reason"]


def test_given_a_holder_that_may_be_redriven_when_a_release_starts_then_it_is_locked(world: World) -> None:
    world.lock()
    world.workflow.executions[f"arn:{RELEASE}"] = "PENDING_REDRIVE"
    with pytest.raises(LockedError):
        world.lock("release-2")


def test_given_two_takeovers_at_once_then_one_of_them_is_locked(world: World) -> None:
    world.lock()
    world.workflow.executions[f"arn:{RELEASE}"] = "ABORTED"
    describe = world.workflow.describe_execution
    done: list[bool] = []

    def overtaken(**parameters: str) -> dict[str, str]:
        if not done:
            done.append(True)
            world.lock("release-3")
        return describe(**parameters)

    world.workflow.describe_execution = overtaken  # type: ignore[method-assign]
    world.workflow.executions["arn:release-2"] = "RUNNING"
    with pytest.raises(LockedError, match="same moment"):
        world.release("acquire_lock", release_id="release-2", execution_arn="arn:release-2")
    assert world.story("release-3") == [("acquire_lock", "taken_over")]


def test_given_the_lock_is_ours_when_it_is_acquired_again_then_the_first_champion_is_answered(
    world: World,
) -> None:
    first = world.lock()
    world.stack.parameters["ChampionModelVersion"] = "meanwhile"
    assert world.lock() == first


def test_given_a_stack_under_update_when_a_release_starts_then_it_is_asked_again_and_holds_no_lock(
    world: World,
) -> None:
    world.stack.status = "UPDATE_IN_PROGRESS"
    with pytest.raises(StackBusyError):
        world.lock()
    world.stack.finish()
    world.lock("release-2")
    assert world.story() == []


def test_given_an_experiment_left_behind_when_the_next_release_starts_then_it_is_ended(world: World) -> None:
    world.experiment()
    world.release("set_share", share=0.5, champion=OLD, challenger=NEW, stage=1)
    world.workflow.executions[f"arn:{RELEASE}"] = "ABORTED"
    world.lock("release-2")
    assert world.split() == {"champion": (1.0, OLD["version"])}
    assert world.stack.parameters["Phase"] == "steady"
    assert world.stack.parameters["ChallengerModelUri"] == ""


def test_given_another_holder_when_a_release_ends_then_the_lock_stays(world: World) -> None:
    world.lock()
    world.release("release_lock", release_id="release-2", outcome="failed", reason="LockedError.")
    with pytest.raises(LockedError):
        world.lock("release-3")


def test_given_a_finished_release_when_it_ends_twice_then_the_next_one_may_start(world: World) -> None:
    world.lock()
    for _ in range(2):
        world.release("release_lock", outcome="kept", reason="No gain.")
    world.lock("release-2")
    assert [row["reason"] for row in world.rows()][1:] == ["No gain.", "No gain."]


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        ({"errorMessage": "No manifest.", "errorType": "X", "stackTrace": ["…"]}, "No manifest."),
        (
            {"TrainingJobName": "t", "FailureReason": "AlgorithmError: exit code 1"},
            "AlgorithmError: exit code 1",
        ),
        ({"ProcessingJobName": "p", "ExitMessage": "error: no items"}, "error: no items"),
        (["no", "object"], '["no", "object"]'),
    ],
)
def test_given_a_failed_task_when_the_release_ends_then_the_ledger_holds_its_message_alone(
    world: World, cause: object, reason: str
) -> None:
    world.release("release_lock", outcome="failed", reason=json.dumps(cause))
    assert world.rows()[0]["reason"] == reason


def test_given_an_endless_reason_when_the_release_ends_then_the_ledger_holds_its_beginning(
    world: World,
) -> None:
    world.release("release_lock", outcome="failed", reason="x" * 5000)
    assert len(world.rows()[0]["reason"]) == 1000


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("start_experiment", {"champion": OLD, "challenger": NEW}),
        ("set_share", {"champion": OLD, "challenger": NEW, "share": 0.1, "stage": 0}),
        ("promote", {"champion": OLD, "challenger": NEW}),
        ("retire", {"challenger": NEW}),
    ],
)
def test_given_a_lock_taken_over_when_the_old_release_revives_then_it_changes_nothing(
    world: World, task: str, fields: dict[str, object]
) -> None:
    world.lock()
    world.workflow.executions[f"arn:{RELEASE}"] = "ABORTED"
    world.lock("release-2")
    with pytest.raises(LockLostError):
        world.release(task, **fields)
    assert world.stack.received("update_stack") == []
    assert world.sagemaker.received("update_endpoint_weights_and_capacities") == []
    assert world.split() == {}


def test_given_rows_of_the_same_millisecond_then_none_is_overwritten(world: World) -> None:
    for outcome in ("first", "second", "third"):
        world.ledger.note(RELEASE, "step", outcome)
    assert [outcome for _, outcome in world.story()] == ["first", "second", "third"]
    assert len({row["sk"] for row in world.rows()}) == 3


def test_given_a_field_that_no_task_has_then_the_caller_is_told_which(world: World) -> None:
    with pytest.raises(BadInputError, match=r"retire\.champion"):
        world.release("retire", challenger=NEW, champion=OLD)
    with pytest.raises(BadInputError, match="task"):
        world.release("reboot")


def test_given_an_unforeseen_failure_then_the_ledger_names_its_kind_and_no_more(world: World) -> None:
    world.tables.call("PutItem", TableName="ledger", Item=to_item({"pk": f"LOCK#{ENDPOINT}", "sk": "LOCK"}))
    with pytest.raises(ValueError):
        world.release("restore")
    assert world.rows()[0]["reason"] == "Unforeseen: ValidationError."
