"""`bootstrap` makes the execution role that the serving stack's template names, and converges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts import bootstrap
from operations.execution_role import make_execution_role
from operations.progress import Step
from tests.support.emulator import ACCOUNT, REGION, OwnEmulator

STACK = "evergreen-prod-serving"
DEPLOY_ROLE = f"cdk-hnb659fds-deploy-role-{ACCOUNT}-{REGION}"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEmulator]:
    """An account with CDK's bootstrap stack, of which the deploy role matters here."""
    emulator = OwnEmulator(tmp_path_factory.mktemp("bootstrap"))
    emulator.start()
    emulator.make_role(DEPLOY_ROLE, "ec2.amazonaws.com")
    yield emulator
    emulator.stop()


def made(cloud: OwnEmulator, folder: Path) -> Step:
    step = Step("execution role", folder / "log")
    make_execution_role(cloud.client("cloudformation"), STACK, "evergreen-prod", step)
    return step


def test_the_role_is_the_one_that_the_stack_names_and_cdk_may_hand_it_over(
    cloud: OwnEmulator, tmp_path: Path
) -> None:
    made(cloud, tmp_path)

    iam = cloud.client("iam")
    role = iam.get_role(RoleName=bootstrap.execution_role(STACK, REGION))["Role"]
    (trusted,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trusted["Principal"] == {"Service": "cloudformation.amazonaws.com"}
    policies = [one["PolicyName"] for one in iam.list_policies(Scope="Local")["Policies"]]
    assert bootstrap.permissions_boundary(STACK, REGION) in policies
    (attached,) = iam.list_attached_role_policies(RoleName=DEPLOY_ROLE)["AttachedPolicies"]
    version = iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId="v1")["PolicyVersion"]
    (statement,) = version["Document"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("iam:PassRole", role["Arn"])


def test_done_again_nothing_changes(cloud: OwnEmulator, tmp_path: Path) -> None:
    made(cloud, tmp_path)
    assert made(cloud, tmp_path).note == "already there"
    names = [one["StackName"] for one in cloud.client("cloudformation").describe_stacks()["Stacks"]]
    assert names == ["evergreen-prod-serving-bootstrap"]
