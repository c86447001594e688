"""Workflows run pinned actions with the rights they name; the scripts that they call do what they say."""

from __future__ import annotations

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
