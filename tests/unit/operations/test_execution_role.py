"""What `bootstrap` does about a failed attempt, and for which stacks it makes execution roles."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from infra.settings import load
from operations.checks.account import check_execution_roles
from operations.checks.results import Mark
from operations.execution_role import TEMPLATE, bounded_stacks, make_execution_role
from operations.progress import CommandError, Step
from tests.support.recorded_aws import Answer, RecordedAccount, Refusal

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


NOW = yaml.safe_load(TEMPLATE.read_text())


def recorded(status: str | None, template: dict[str, Any]) -> RecordedAccount:
    """An account whose bootstrap stack is in this state; None: there is none."""
    stack = {"StackName": "s", "CreationTime": datetime(2026, 11, 30, tzinfo=UTC), "StackStatus": status}
    described: Answer = {"Stacks": [stack]} if status else Refusal("ValidationError", "does not exist")
    body = {"TemplateBody": json.dumps(template)}
    return RecordedAccount({"cloudformation.DescribeStacks": described, "cloudformation.GetTemplate": body})


@pytest.mark.parametrize(
    ("status", "template", "mark", "says"),
    [
        ("CREATE_COMPLETE", NOW, Mark.PASSED, "that of evergreen-prod-serving"),
        ("UPDATE_ROLLBACK_COMPLETE", NOW | {"Description": "older"}, Mark.FAILED, "of another version"),
        ("ROLLBACK_COMPLETE", NOW, Mark.FAILED, "none for evergreen-prod-serving"),
        (None, NOW, Mark.FAILED, "none for evergreen-prod-serving"),
    ],
)
def test_preflight_says_whether_the_role_is_there_and_of_this_version(
    status: str | None, template: dict[str, Any], mark: Mark, says: str
) -> None:
    account = recorded(status, template)
    target: Any = SimpleNamespace(
        name="prod", settings=load("prod"), client=lambda service, region: account.client(service)
    )

    (result,) = check_execution_roles(target)

    assert (result.mark, says in result.found) == (mark, True)
    if mark is Mark.FAILED:
        assert result.next_step == "make bootstrap ENV=prod"
