"""What `bootstrap` does about a failed attempt, and for which stacks it makes execution roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.settings import load
from operations.execution_role import bounded_stacks, make_execution_role
from operations.progress import CommandError, Step

REGION, STACK = "us-east-1", "evergreen-prod-serving"
EXAMPLES = Path(__file__).parents[2] / "fixtures" / "settings"


class FailedBefore:
    """CloudFormation with the remains of a create that failed, and that fails again."""

    class meta:  # noqa: N801 - as boto3's clients have it
        region_name = REGION

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.status = "ROLLBACK_COMPLETE"

    def describe_stacks(self, **_: Any) -> dict[str, Any]:
        return {"Stacks": [{"StackStatus": self.status}]}

    def delete_stack(self, **_: Any) -> None:
        self.calls.append("delete")

    def get_waiter(self, _: str) -> FailedBefore:
        return self

    def wait(self, **_: Any) -> None:
        self.calls.append("wait")

    def create_stack(self, **_: Any) -> None:
        self.calls.append("create")

    def describe_stack_events(self, **_: Any) -> dict[str, Any]:
        failed = {"ResourceStatus": "CREATE_FAILED"}
        cancelled = failed | {"LogicalResourceId": "Boundary", "ResourceStatusReason": "cancelled"}
        cause = failed | {"LogicalResourceId": "CloudFormationRole", "ResourceStatusReason": "name is taken"}
        return {"StackEvents": [cancelled, cause]}


def test_the_remains_of_a_failed_attempt_are_deleted_first_and_a_new_failure_is_explained(
    tmp_path: Path,
) -> None:
    cloudformation = FailedBefore()
    with pytest.raises(CommandError, match="ROLLBACK_COMPLETE: CloudFormationRole: name is taken"):
        make_execution_role(cloudformation, STACK, "evergreen-prod", Step("x", tmp_path / "log"))
    assert cloudformation.calls == ["delete", "wait", "create"]


def test_each_region_has_the_role_of_its_own_serving_stack() -> None:
    assert list(bounded_stacks(load("prod"))) == [("us-east-1", "evergreen-prod-serving")]
    assert list(bounded_stacks(load("two-regions", EXAMPLES))) == [
        ("us-east-1", "evergreen-two-regions-serving"),
        ("us-west-2", "evergreen-two-regions-failover"),
    ]
