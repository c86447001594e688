"""Workflows run pinned actions with the rights they name; the scripts that they call do what they say."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
PINNED = re.compile(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40}$")
COMMENTED = re.compile(r"uses:\s+\S+@([0-9a-f]{40})\s+#\s(v\d+\.\d+\.\d+)$")


def _parsed(path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(path.read_text())
    return parsed


def _uses(path: Path) -> list[str]:
    jobs = _parsed(path)["jobs"].values()
    calls = [job["uses"] for job in jobs if "uses" in job]
    return calls + [step["uses"] for job in jobs for step in job.get("steps", []) if "uses" in step]


def test_there_are_workflows() -> None:
    assert {path.stem for path in WORKFLOWS} >= {"ci", "security", "release"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_digest_with_its_version_beside(path: Path) -> None:
    for action in _uses(path):
        assert PINNED.match(action), f"{path.name}: {action} is not pinned by a commit digest"

    lines = [line for line in path.read_text().splitlines() if re.match(r"^\s*(- )?uses:", line)]
    assert len(lines) == len(_uses(path))
    for line in lines:
        assert COMMENTED.search(line), f"{path.name}: no version beside {line.strip()}"


def test_one_action_has_one_digest_everywhere() -> None:
    digests: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for action in _uses(path):
            name, digest = action.split("@")
            digests.setdefault("/".join(name.split("/")[:2]), set()).add(digest)

    assert {name: found for name, found in digests.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_workflow_has_no_right_that_no_job_names(path: Path) -> None:
    workflow = _parsed(path)

    assert workflow.get("permissions") == {}, f"{path.name}: rights are granted job by job"
    for name, job in workflow["jobs"].items():
        rights = job.get("permissions")
        assert isinstance(rights, dict), f"{path.name}: {name} names no permissions"
        assert rights.get("contents") in ("read", "write"), f"{path.name}: {name}"


def test_only_the_release_writes_contents() -> None:
    writers = {
        (path.stem, name)
        for path in WORKFLOWS
        for name, job in _parsed(path)["jobs"].items()
        if job["permissions"].get("contents") == "write"
    }

    assert writers == {("release", "release")}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_checkout_leaves_its_token_behind(path: Path) -> None:
    for job in _parsed(path)["jobs"].values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_command_is_put_together_from_an_events_text(path: Path) -> None:
    for job in _parsed(path)["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), f"{path.name}: pass values by `env`"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_scripts_that_workflows_call_are_executable(path: Path) -> None:
    text = path.read_text()

    for script in set(re.findall(r"run: (\.ci/[\w-]+)", text)):
        assert (ROOT / script).stat().st_mode & 0o111, f"{script} cannot be run"


def _section(version: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / ".ci" / "changelog-section"), version]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_release_notes_are_the_versions_own_section() -> None:
    notes = _section("0.1.0")

    assert notes.returncode == 0
    assert "### Added" in notes.stdout
    assert "## [" not in notes.stdout
    assert "Layout." not in notes.stdout


def test_a_version_without_a_section_is_not_released() -> None:
    missing = _section("0.1")

    assert missing.returncode == 1
    assert "[0.1]" in missing.stderr


AWS_CREDENTIALS = "aws-actions/configure-aws-credentials@"


def _jobs() -> list[tuple[str, str, dict[str, Any]]]:
    return [(path.stem, name, job) for path in WORKFLOWS for name, job in _parsed(path)["jobs"].items()]


def _assumed(job: dict[str, Any]) -> list[str]:
    return [
        step["with"]["role-to-assume"]
        for step in job["steps"]
        if step.get("uses", "").startswith(AWS_CREDENTIALS)
    ]


def test_only_jobs_that_assume_a_role_may_ask_for_a_token() -> None:
    asking = {(file, name) for file, name, job in _jobs() if "id-token" in job["permissions"]}

    assert asking == {(file, name) for file, name, job in _jobs() if _assumed(job)}
    assert {file for file, _ in asking} == {"deploy", "image"}


def test_whoever_may_change_an_account_waits_for_its_environment() -> None:
    for file, name, job in _jobs():
        if "id-token" in job["permissions"] and (file, name) != ("deploy", "diff"):
            assert job.get("environment"), f"{file}: {name} would run without approval"


def test_pull_requests_get_the_role_that_only_looks() -> None:
    deploy = _parsed(ROOT / ".github" / "workflows" / "deploy.yml")

    assert _assumed(deploy["jobs"]["diff"]) == ["${{ steps.roles.outputs.diff_role }}"]
    assert (
        "github.event.pull_request.head.repo.full_name == github.repository" in deploy["jobs"]["diff"]["if"]
    )
    assert "github.event_name == 'push'" in deploy["jobs"]["staging"]["if"]
    for path in WORKFLOWS:
        assert "pull_request_target" not in path.read_text(), path.name


def test_prod_follows_the_proof_of_staging() -> None:
    jobs = _parsed(ROOT / ".github" / "workflows" / "deploy.yml")["jobs"]

    assert jobs["prove"]["needs"] == "staging"
    assert "make prove ARGS=--keep" in [step.get("run") for step in jobs["prove"]["steps"]]
    assert jobs["prod"]["needs"] == "prove"
    assert jobs["prod"]["environment"] == "prod"
    # `always()` or the like would let prod run after a failed proof.
    assert "if" not in jobs["prove"]
    assert "if" not in jobs["prod"]


def test_no_account_is_deployed_to_before_somebody_has_switched_it_on() -> None:
    jobs = _parsed(ROOT / ".github" / "workflows" / "deploy.yml")["jobs"]

    for name, job in jobs.items():
        assert "vars.DELIVERY == 'true'" in job.get("if", "") or job.get("needs"), name


def test_an_image_is_scanned_before_it_is_pushed() -> None:
    steps = _parsed(ROOT / ".github" / "workflows" / "image.yml")["jobs"]["image"]["steps"]
    order = [step.get("uses", step.get("run", "")).partition(" ")[0].partition("@")[0] for step in steps]

    (scan,) = [step for step in steps if step.get("uses", "").startswith("anchore/scan-action@")]
    assert scan["with"]["fail-build"] is True
    assert order.index("make") < order.index("anchore/scan-action") < order.index(".ci/push-image")
    assert order.index("anchore/scan-action") < order.index("aws-actions/configure-aws-credentials")


DOCKER = """#!/bin/sh
echo "docker $*" >> "$CALLS"
case $1 in login) cat > /dev/null ;; esac
case $1 in inspect) echo 111122223333.dkr.ecr.us-east-1.amazonaws.com/assets@sha256:feed ;; esac
case "$*" in *"$REFUSES"*) exit 1 ;; esac
case "$*" in *--file*-*) cat >> "$CALLS" ;; esac
"""


def _push(tmp_path: Path, *, refuses: str = "nothing") -> subprocess.CompletedProcess[str]:
    for name, script in {
        "docker": DOCKER,
        "aws": '#!/bin/sh\necho "aws $*" >> "$CALLS"; echo secret\n',
    }.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "image.cdx.json").write_text("{}")
    place = {"ACCOUNT": "111122223333", "REGION": "us-east-1", "REPOSITORY": "assets", "REFUSES": refuses}
    place |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
    return subprocess.run(
        [ROOT / ".ci" / "push-image", "evergreen-serving:abc", tmp_path / "image.cdx.json"],
        env=os.environ | place,
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_an_image_is_pushed_with_its_bill_of_materials_and_told_by_digest(tmp_path: Path) -> None:
    done = _push(tmp_path)

    assert (done.returncode, done.stdout) == (
        0,
        "111122223333.dkr.ecr.us-east-1.amazonaws.com/assets@sha256:feed\n",
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    target = "111122223333.dkr.ecr.us-east-1.amazonaws.com/assets:serving-abc"
    assert [call for call in calls if call.startswith("docker push")] == [
        f"docker push {target}",
        f"docker push {target}.sbom",
    ]
    assert "COPY image.cdx.json /sbom.cdx.json" in calls
    assert "secret" not in done.stdout + done.stderr + "".join(calls)


def test_a_push_that_the_registry_refuses_fails(tmp_path: Path) -> None:
    assert _push(tmp_path, refuses="push").returncode != 0
