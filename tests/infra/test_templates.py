"""What holds for every template: cfn-lint, our policy in a real synth, and that nothing changes unnoticed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from cfnlint.api import ManualArgs, lint

import infra
from tests.support import permissions
from tests.validation import findings

ROOT = Path(__file__).parents[2]
SNAPSHOTS = Path(__file__).parent / "snapshots"
ENVIRONMENTS = ("local", "dev", "staging", "prod")
STACKS = ("data", "serving", "gateway", "monitoring", "refresh")
EXAMPLES = sorted(path.stem for path in (ROOT / "tests" / "fixtures" / "settings").glob("*.yaml"))
REVIEWED = [(env, stack) for env in ("local", "prod") for stack in STACKS]
REVIEWED += [("two-regions", f"failover{part}") for part in ("-data", "", "-update")]
ACCEPTED = [row.rule for row in findings.load() if row.tool == "cfn-lint"]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_cfn_lint_finds_nothing(template_file, env, stack):
    text = template_file(env, stack).read_text()

    found = lint(text, config=ManualArgs(ignore_checks=ACCEPTED, regions=["us-east-1"]))

    assert [str(match) for match in found] == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_cfn_lint_finds_nothing_in_the_other_kinds(assembly, example):
    """What differs by kind: the serving stack, and the second region's."""
    folder = assembly(example)
    for path in sorted([*folder.glob("*-serving*.template.json"), *folder.glob("*-failover*.template.json")]):
        region = "us-west-2" if "-failover" in path.name else "us-east-1"
        found = lint(path.read_text(), config=ManualArgs(ignore_checks=ACCEPTED, regions=[region]))

        assert [str(match) for match in found] == []


def test_a_role_with_full_access_ends_synth(context, tmp_path):
    app = cdk.App(context=context, outdir=str(tmp_path))
    infra.build(app, "local")
    serving = app.node.find_child("evergreen-local-serving")
    iam.Role(
        serving,
        "Careless",
        assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"),
        managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name("AmazonSageMakerFullAccess")],
    )

    with pytest.raises(RuntimeError):
        app.synth()

    report = (tmp_path / "validation-report.json").read_text()
    assert "no-full-access" in report
    assert "AwsSolutions-IAM4" in report


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"env": "nowhere"}, "settings/nowhere.yaml: there is no such environment."),
        ({}, "name an environment, for example: cdk synth -c env=dev"),
    ],
)
def test_a_wrong_environment_ends_synth_with_one_message_and_no_traceback(given, says):
    finished = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=os.environ | {"CDK_CONTEXT_JSON": json.dumps(given)},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert finished.returncode == 1
    assert says in finished.stderr
    assert "Traceback" not in finished.stderr


def scrub(text: str) -> str:
    """The text without what changes from machine to machine, or with every edit of the functions' code."""
    text = re.sub(r"[0-9a-f]{64}\.gz", "<source>.gz", text)
    text = re.sub(r"(EVERGREEN_CODE_VERSION\W+)[0-9a-f]{64}", r"\1<source>", text)
    return re.sub(r"(RestApiDeployment[0-9A-F]{8})[0-9a-f]{32}", r"\1<deployment>", text)


@pytest.mark.parametrize(("env", "stack"), REVIEWED)
def test_permissions_and_endpoint_configuration_are_the_reviewed_ones(template_json, env, stack):
    """A difference is meant to be read: write the new one with UPDATE_SNAPSHOTS=1 and review it."""
    reviewed = SNAPSHOTS / f"{env}-{stack}.txt"
    now = scrub("\n".join(permissions.lines(template_json(env, stack))) + "\n")
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        reviewed.parent.mkdir(exist_ok=True)
        reviewed.write_text(now)

    assert now.splitlines() == reviewed.read_text().splitlines()
