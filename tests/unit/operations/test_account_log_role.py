"""API Gateway's log role of an account: made where there is none, and left alone where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from operations.account_log_role import ROLE, set_account_log_role
from operations.progress import CommandError, Step

REGION = "us-east-1"


class Gateway:
    """API Gateway's account settings; it takes a role after `deaf` tries, when IAM's change has arrived."""

    def __init__(self, role: str = "", deaf: int = 0) -> None:
        self.role, self.deaf = role, deaf

    def get_account(self) -> dict[str, Any]:
        return {"cloudwatchRoleArn": self.role} if self.role else {}

    def update_account(self, *, patchOperations: list[dict[str, str]]) -> None:
        (change,) = patchOperations
        assert (change["op"], change["path"]) == ("replace", "/cloudwatchRoleArn")
        if self.deaf:
            self.deaf -= 1
            raise ClientError(
                {"Error": {"Code": "BadRequestException", "Message": "The role"}}, "UpdateAccount"
            )
        self.role = change["value"]


@pytest.fixture
def iam(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        yield boto3.client("iam", region_name=REGION)


def test_an_account_without_one_gets_a_role_that_api_gateway_may_assume(iam: Any, tmp_path: Path) -> None:
    gateway, step = Gateway(deaf=2), Step("x", tmp_path / "log")

    set_account_log_role(gateway, iam, step, pause=0)

    assert gateway.role.endswith(f":role/{ROLE}")
    (policy,) = iam.list_attached_role_policies(RoleName=ROLE)["AttachedPolicies"]
    assert policy["PolicyName"] == "AmazonAPIGatewayPushToCloudWatchLogs"
    trust = iam.get_role(RoleName=ROLE)["Role"]["AssumeRolePolicyDocument"]
    assert trust["Statement"][0]["Principal"] == {"Service": "apigateway.amazonaws.com"}


def test_another_region_takes_the_role_that_is_there(iam: Any, tmp_path: Path) -> None:
    first, second = Gateway(), Gateway()
    for gateway in (first, second):
        set_account_log_role(gateway, iam, Step("x", tmp_path / "log"), pause=0)

    assert first.role == second.role


def test_what_another_system_set_stays(iam: Any, tmp_path: Path) -> None:
    gateway, step = Gateway(role="arn:aws:iam::111122223333:role/theirs"), Step("x", tmp_path / "log")

    set_account_log_role(gateway, iam, step)

    assert gateway.role.endswith("role/theirs")
    assert [role["RoleName"] for role in iam.list_roles()["Roles"]] == []


def test_a_role_that_is_never_taken_is_an_error_with_a_next_step(iam: Any, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="run bootstrap again"):
        set_account_log_role(Gateway(deaf=99), iam, Step("x", tmp_path / "log"), pause=0)
