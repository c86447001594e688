"""Stacks that an earlier deploy left half way, with CloudFormation's answers one after the other."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.settings import load
from operations import recovery
from operations.cdk import StackPlace
from operations.progress import CommandError, Step
from operations.recovery import recover
from operations.target import Target
from tests.support.recorded_aws import RecordedAccount, Refusal


class Cloud:
    """Stacks whose status goes through a list; the last one stays. `GONE` is a stack that does not exist."""

    GONE = "gone"

    def __init__(self, **statuses: list[str]) -> None:
        self.statuses = statuses
        self.account = RecordedAccount(
            {
                "cloudformation.DescribeStacks": self.describe,
                "cloudformation.DeleteStack": {},
                "cloudformation.ContinueUpdateRollback": {},
                "cloudformation.DescribeStackEvents": {"StackEvents": [self.event()]},
            }
        )

    def describe(self, asked: dict[str, Any]) -> dict[str, Any] | Refusal:
        states = self.statuses[asked["StackName"].rpartition("-")[2]]
        status = states.pop(0) if len(states) > 1 else states[0]
        if status == self.GONE:
            return Refusal("ValidationError", "does not exist")
        row = {"StackName": asked["StackName"], "CreationTime": datetime.now(UTC), "StackStatus": status}
        return {"Stacks": [row]}

    @staticmethod
    def event() -> dict[str, Any]:
        return {
            "StackId": "s", "EventId": "e", "StackName": "n", "Timestamp": datetime.now(UTC),
            "LogicalResourceId": "Bucket", "ResourceStatus": "DELETE_FAILED",
            "ResourceStatusReason": "The bucket is not empty",
        }  # fmt: skip

    def recover(self, tmp_path: Path) -> list[str]:
        """Recovers all; the names of what was deleted, in order."""
        target = Target(load("prod"), self.account, "", {})  # type: ignore[arg-type]
        places = [StackPlace(f"evergreen-prod-{part}", "us-east-1") for part in self.statuses]
        recover(target, places, Step("stacks", tmp_path / "log"))
        return [call["StackName"] for call in self.account.made("cloudformation.DeleteStack")]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_POLL_SECONDS", 0.0)


@pytest.mark.parametrize("status", recovery.NEVER_CREATED)
def test_what_was_never_completed_is_deleted_and_said_the_data_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    gone = ["DELETE_IN_PROGRESS", Cloud.GONE]
    deleted = Cloud(data=[status, *gone], serving=[status, *gone]).recover(tmp_path)
    assert deleted == ["evergreen-prod-serving", "evergreen-prod-data"]
    assert f"evergreen-prod-serving is {status}: never completed, so it is deleted" in capsys.readouterr().out


@pytest.mark.parametrize(
    "status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", Cloud.GONE]
)
def test_what_takes_a_deploy_is_left_alone(tmp_path: Path, status: str) -> None:
    assert Cloud(serving=[status]).recover(tmp_path) == []


def test_an_operation_that_still_runs_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Cloud(serving=["UPDATE_IN_PROGRESS"] * 5 + ["UPDATE_COMPLETE"]).recover(tmp_path) == []
    assert capsys.readouterr().out.count("waiting for it") == 1
    # Killed while it was created, and rolled back meanwhile.
    cloud = Cloud(serving=["CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE", Cloud.GONE])
    assert cloud.recover(tmp_path) == ["evergreen-prod-serving"]


def test_a_rollback_that_stopped_is_continued_or_names_what_stops_it(tmp_path: Path) -> None:
    stopped = "UPDATE_ROLLBACK_FAILED"
    cloud = Cloud(serving=[stopped, "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"])
    assert cloud.recover(tmp_path) == []
    assert len(cloud.account.made("cloudformation.ContinueUpdateRollback")) == 1
    with pytest.raises(CommandError, match="Bucket: The bucket is not empty"):
        Cloud(serving=[stopped]).recover(tmp_path)


def test_a_stack_that_cannot_be_deleted_names_what_is_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"could not be deleted \(Bucket: The bucket is not empty\)"):
        Cloud(serving=["ROLLBACK_COMPLETE", "DELETE_FAILED"]).recover(tmp_path)
