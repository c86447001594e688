"""Who may deploy from GitHub Actions: trust by exact subject, and nothing but CDK's bootstrap roles."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from infra import delivery_roles
from tests.support.delivery import Resources, arn, settings, statements, synthesize

ACCOUNT = "111122223333"
ISSUER = "token.actions.githubusercontent.com"


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Resources]:
    """`delivery(env, provider)` is the synthesized stack's resources, policy and nag passed."""

    @cache
    def synthesized(env: str = "staging", provider: str = "create") -> Resources:
        return synthesize(settings(env, provider=provider), tmp_path_factory.mktemp("delivery"))

    return synthesized


def of_kind(resources: Resources, kind: str) -> list[dict[str, Any]]:
    return [each["Properties"] for each in resources.values() if each["Type"] == kind]


def role(resources: Resources, name: str) -> dict[str, Any]:
    (found,) = [each for each in of_kind(resources, "AWS::IAM::Role") if each["RoleName"] == name]
    return found


def test_the_deploy_role_trusts_whole_subjects_and_one_audience(delivery: Callable[..., Resources]) -> None:
    (statement,) = role(delivery(), "evergreen-staging-deploy")["AssumeRolePolicyDocument"]["Statement"]

    assert statement["Effect"] == "Allow"
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {
            f"{ISSUER}:aud": "sts.amazonaws.com",
            f"{ISSUER}:sub": [
                "repo:example/ml-platform:environment:staging",
                "repo:example/ml-platform:ref:refs/heads/main",
            ],
        }
    }


def test_the_roles_trust_the_provider_that_is_made_here(delivery: Callable[..., Resources]) -> None:
    resources = delivery()
    ((logical_id, provider),) = [
        (name, each["Properties"])
        for name, each in resources.items()
        if each["Type"] == "AWS::IAM::OIDCProvider"
    ]

    assert provider == provider | {"Url": f"https://{ISSUER}", "ClientIdList": ["sts.amazonaws.com"]}
    for name in ("deploy", "diff"):
        (statement,) = role(resources, f"evergreen-staging-{name}")["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Federated": {"Fn::GetAtt": [logical_id, "Arn"]}}


def test_a_provider_that_is_there_is_named(delivery: Callable[..., Resources]) -> None:
    resources = delivery("staging", "reuse")
    (statement,) = role(resources, "evergreen-staging-deploy")["AssumeRolePolicyDocument"]["Statement"]

    assert of_kind(resources, "AWS::IAM::OIDCProvider") == []
    assert (
        arn(statement["Principal"]["Federated"], ACCOUNT) == f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"
    )


@pytest.mark.parametrize(
    ("purpose", "kinds"),
    [("Deploy", ["deploy", "file-publishing", "image-publishing", "lookup"]), ("Diff", ["lookup"])],
)
def test_a_role_may_assume_bootstrap_roles_and_nothing_else(
    delivery: Callable[..., Resources], purpose: str, kinds: list[str]
) -> None:
    resources = delivery()
    (statement,) = statements(resources, purpose, ACCOUNT)

    assert (statement["Effect"], statement["Action"]) == ("Allow", "sts:AssumeRole")
    assert statement["Resource"] == [
        f"arn:aws:iam::{ACCOUNT}:role/cdk-hnb659fds-{kind}-role-{ACCOUNT}-us-east-1" for kind in kinds
    ]
    properties = role(resources, f"evergreen-staging-{purpose.lower()}")
    assert "ManagedPolicyArns" not in properties
    assert "Policies" not in properties


def test_a_second_region_has_bootstrap_roles_of_its_own(delivery: Callable[..., Resources]) -> None:
    (statement,) = statements(delivery("two-regions"), "Deploy", ACCOUNT)
    assert {each.rpartition(f"{ACCOUNT}-")[2] for each in statement["Resource"]} == {
        "us-east-1",
        "us-west-2",
    }


def test_pull_requests_may_look_and_never_deploy(delivery: Callable[..., Resources]) -> None:
    resources = delivery()
    (looks,) = role(resources, "evergreen-staging-diff")["AssumeRolePolicyDocument"]["Statement"]
    (deploys,) = role(resources, "evergreen-staging-deploy")["AssumeRolePolicyDocument"]["Statement"]

    subject = "repo:example/ml-platform:pull_request"
    assert looks["Condition"]["StringEquals"][f"{ISSUER}:sub"] == [subject]
    assert subject not in deploys["Condition"]["StringEquals"][f"{ISSUER}:sub"]


def test_without_the_section_there_is_no_role(assembly: Callable[[str], Path]) -> None:
    assert not list(assembly("staging").glob("*-delivery.template.json"))


def test_workflows_are_told_the_roles_that_the_stack_makes(delivery: Callable[..., Resources]) -> None:
    told = dict(line.split("=", 1) for line in delivery_roles.lines(settings("staging")))
    (statement,) = statements(delivery(), "Deploy", ACCOUNT)

    assert told["deploy_role"] == f"arn:aws:iam::{ACCOUNT}:role/evergreen-staging-deploy"
    assert told["diff_role"] == f"arn:aws:iam::{ACCOUNT}:role/evergreen-staging-diff"
    assert told["image_role"] in statement["Resource"]
    assert told["region"] == "us-east-1"


def test_an_environment_without_the_section_is_said_to_lack_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert delivery_roles.main(["staging"]) == 1
    assert "settings/staging.yaml has no section delivery" in capsys.readouterr().err
