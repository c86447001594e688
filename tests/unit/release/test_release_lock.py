"""One release at a time, and a lock that outlives nobody."""

from __future__ import annotations

import json

import pytest

from lambdas.aws.dynamodb import to_item
from lambdas.release.errors import BadInputError, LockedError, LockLostError, StackBusyError
from tests.support.release_loop import ENDPOINT, NEW, OLD, RELEASE, STACK, ReleaseHarness


def test_given_a_free_endpoint_when_a_release_starts_then_it_learns_what_serves(
    release: ReleaseHarness,
) -> None:
    assert release.lock() == {
        "champion": OLD,
        "endpoint_name": ENDPOINT,
        "serving_stack": STACK,
        "restore": {"needed": False, "parameters": {}},
    }
    assert release.story() == [("acquire_lock", "acquired")]


def test_given_a_running_release_when_another_starts_then_it_is_told_which_one_holds_the_lock(
    release: ReleaseHarness,
) -> None:
    release.lock()
    with pytest.raises(LockedError, match=RELEASE):
        release.lock("release-2")
    assert release.story("release-2") == [("acquire_lock", "failed")]


@pytest.mark.parametrize("status", ["FAILED", "ABORTED", "TIMED_OUT", "SUCCEEDED", None])
def test_given_a_holder_that_no_longer_runs_when_a_release_starts_then_it_takes_the_lock_over(
    release: ReleaseHarness, status: str | None
) -> None:
    release.lock()
    if status is None:
        del release.workflow.executions[f"arn:{RELEASE}"]
    else:
        release.workflow.executions[f"arn:{RELEASE}"] = status
    release.lock("release-2")
    assert release.story("release-2") == [("acquire_lock", "taken_over")]
    assert RELEASE in release.rows("release-2")[0]["reason"]


def test_given_a_holder_that_may_be_redriven_when_a_release_starts_then_it_is_locked(
    release: ReleaseHarness,
) -> None:
    release.lock()
    release.workflow.executions[f"arn:{RELEASE}"] = "PENDING_REDRIVE"
    with pytest.raises(LockedError):
        release.lock("release-2")


def test_given_two_takeovers_at_once_then_one_of_them_is_locked(release: ReleaseHarness) -> None:
    release.lock()
    release.workflow.executions[f"arn:{RELEASE}"] = "ABORTED"
    describe = release.workflow.describe_execution
    done: list[bool] = []

    def overtaken(**parameters: str) -> dict[str, str]:
        if not done:
            done.append(True)
            release.lock("release-3")
        return describe(**parameters)

    release.workflow.describe_execution = overtaken  # type: ignore[method-assign]
    release.workflow.executions["arn:release-2"] = "RUNNING"
    with pytest.raises(LockedError, match="same moment"):
        release.invoke("acquire_lock", release_id="release-2", execution_arn="arn:release-2")
    assert release.story("release-3") == [("acquire_lock", "taken_over")]


def test_given_the_lock_is_ours_when_it_is_acquired_again_then_the_first_champion_is_answered(
    release: ReleaseHarness,
) -> None:
    first = release.lock()
    release.stack.parameters["ChampionModelVersion"] = "meanwhile"
    assert release.lock() == first


def test_given_a_stack_under_update_when_a_release_starts_then_it_is_asked_again_and_holds_no_lock(
    release: ReleaseHarness,
) -> None:
    release.stack.status = "UPDATE_IN_PROGRESS"
    with pytest.raises(StackBusyError):
        release.lock()
    release.stack.finish()
    release.lock("release-2")
    assert release.story() == []


def test_given_an_experiment_left_behind_when_the_next_release_starts_then_it_is_ended(
    release: ReleaseHarness,
) -> None:
    release.experiment()
    release.invoke("set_share", share=0.5, champion=OLD, challenger=NEW, stage=1)
    release.workflow.executions[f"arn:{RELEASE}"] = "ABORTED"
    release.lock("release-2")
    assert release.split() == {"champion": (1.0, OLD["version"])}
    assert release.stack.parameters["Phase"] == "steady"
    assert release.stack.parameters["ChallengerModelUri"] == ""


def test_given_another_holder_when_a_release_ends_then_the_lock_stays(release: ReleaseHarness) -> None:
    release.lock()
    release.invoke("release_lock", release_id="release-2", outcome="failed", reason="LockedError.")
    with pytest.raises(LockedError):
        release.lock("release-3")


def test_given_a_finished_release_when_it_ends_twice_then_the_next_one_may_start(
    release: ReleaseHarness,
) -> None:
    release.lock()
    for _ in range(2):
        release.invoke("release_lock", outcome="kept", reason="No gain.")
    release.lock("release-2")
    assert [row["reason"] for row in release.rows()][1:] == ["No gain.", "No gain."]


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
    release: ReleaseHarness, cause: object, reason: str
) -> None:
    release.invoke("release_lock", outcome="failed", reason=json.dumps(cause))
    assert release.rows()[0]["reason"] == reason


def test_given_an_endless_reason_when_the_release_ends_then_the_ledger_holds_its_beginning(
    release: ReleaseHarness,
) -> None:
    release.invoke("release_lock", outcome="failed", reason="x" * 5000)
    assert len(release.rows()[0]["reason"]) == 1000


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
    release: ReleaseHarness, task: str, fields: dict[str, object]
) -> None:
    release.lock()
    release.workflow.executions[f"arn:{RELEASE}"] = "ABORTED"
    release.lock("release-2")
    with pytest.raises(LockLostError):
        release.invoke(task, **fields)
    assert release.stack.updates == 0
    assert release.sagemaker.received("update_endpoint_weights_and_capacities") == []
    assert release.split() == {}


def test_given_rows_of_the_same_millisecond_then_none_is_overwritten(release: ReleaseHarness) -> None:
    for outcome in ("first", "second", "third"):
        release.ledger.note(RELEASE, "step", outcome)
    assert [outcome for _, outcome in release.story()] == ["first", "second", "third"]
    assert len({row["sk"] for row in release.rows()}) == 3


def test_given_a_field_that_no_task_has_then_the_caller_is_told_which(release: ReleaseHarness) -> None:
    with pytest.raises(BadInputError, match=r"retire\.champion"):
        release.invoke("retire", challenger=NEW, champion=OLD)
    with pytest.raises(BadInputError, match="task"):
        release.invoke("reboot")


def test_given_an_unforeseen_failure_then_the_ledger_names_its_kind_and_no_more(
    release: ReleaseHarness,
) -> None:
    release.tables.call("PutItem", TableName="ledger", Item=to_item({"pk": f"LOCK#{ENDPOINT}", "sk": "LOCK"}))
    with pytest.raises(ValueError):
        release.invoke("restore")
    assert release.rows()[0]["reason"] == "Unforeseen: ValidationError."
