"""With the rights that the delivery stack grants, and no others, the pipeline works on the laptop cloud."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from local.environments import node_environment
from local.home import Home
from tests.support.delivery import Resources, settings, statements, synthesize
from tests.support.emulator import policy
from tests.support.laptop import REPOSITORY, Laptop

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Resources]:
    """The folder that holds the synthesized `local`, and the resources of its delivery stack."""
    out = tmp_path_factory.mktemp("cdk.out")
    return out, synthesize(settings("local"), out / "local")


@pytest.fixture
def as_role(laptop: Laptop, assembly: tuple[Path, Resources]) -> Command:
    """`as_role(purpose, *words)` runs a command of the pipeline with a role's rights; None for none."""

    def run(purpose: str | None, *words: str) -> subprocess.CompletedProcess[str]:
        out, resources = assembly
        account, name = laptop.outputs["account"], f"pipeline-{purpose or 'stranger'}".lower()
        iam = laptop.aws("iam")
        iam.create_user(UserName=name)
        if purpose:
            rights = policy(*statements(resources, purpose, account))
            iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=rights)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        own = {each: value for each, value in os.environ.items() if not each.startswith("AWS_")}
        given = {
            "AWS_ENDPOINT_URL": laptop.outputs["aws_endpoint_url"],
            "AWS_REGION": laptop.outputs["region"],
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "CDK_OUT": str(out),
        }
        return subprocess.run(
            words,
            cwd=REPOSITORY,
            env=own | {"PATH": node_environment(Home.from_environment())["PATH"]} | given,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_a_pull_request_sees_what_would_change_with_the_reading_role_alone(as_role: Command) -> None:
    done = as_role("Diff", ".ci/cdk-diff", "local")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("### cdk diff local\n```diff\n")
    assert "Stack evergreen-local-delivery" in done.stdout
    assert "DeployRoleArn" in done.stdout, "what is not deployed yet is in the comparison"


def test_without_the_bootstrap_role_nothing_is_seen(as_role: Command) -> None:
    done = as_role(None, ".ci/cdk-diff", "local")

    assert done.returncode != 0
    assert "not authorized to perform" in done.stdout


def test_a_stack_is_deployed_with_the_bootstrap_roles_alone(as_role: Command) -> None:
    done = as_role("Deploy", ".ci/cdk-deploy", "local", "evergreen-local-monitoring")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "evergreen-local-monitoring" in done.stdout + done.stderr
