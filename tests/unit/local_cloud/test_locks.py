"""Locks: each covers its inputs with hashes, and all that is installed comes from one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from local.environments import CLIENTS, DEPLOYING, DEVELOPMENT, PEERS, SDK, SERVING, VALIDATORS
from local.home import REPOSITORY
from local.locks import EXCLUDED, INPUTS, TORCH, lock_of

PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
UNLOCKED = {TORCH, EXCLUDED, "requirements/jobs.txt", "requirements/evaluation-dev.txt"}
"""torch by its own reason; jobs run in SageMaker's container; evaluation-dev is a part of dev."""


def pins_of(path: Path) -> dict[str, str]:
    """Versions by normalized name, those of files named by `-r` included."""
    text = path.read_text()
    found = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PIN.findall(text)}
    for other in re.findall(r"^-r (\S+)", text, re.MULTILINE):
        found |= pins_of(path.parent / other)
    return found


def blocks_of(name: str) -> list[str]:
    """A lock's entries: each begins at the start of a line, its hashes below it are indented."""
    return re.findall(r"^[a-z0-9].*(?:\n .*)*", (REPOSITORY / lock_of(name)).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", INPUTS)
def test_a_lock_has_every_direct_pin_of_its_inputs(name):
    direct: dict[str, str] = {}
    for path in INPUTS[name]:
        direct |= pins_of(REPOSITORY / path)
    if TORCH in INPUTS[name]:
        assert "torch" not in pins_of(REPOSITORY / lock_of(name))
        del direct["torch"]

    assert direct.items() <= pins_of(REPOSITORY / lock_of(name)).items(), "run `make lock`"


@pytest.mark.parametrize("name", INPUTS)
def test_every_entry_of_a_lock_has_a_version_and_hashes(name):
    blocks = blocks_of(name)

    assert blocks
    for block in blocks:
        assert PIN.match(block), block
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), block


@pytest.mark.parametrize("name", INPUTS)
def test_a_lock_names_no_package_index_and_no_cuda(name):
    text = (REPOSITORY / lock_of(name)).read_text()

    assert "://" not in text
    assert "index-url" not in text
    assert not re.search(r"^(nvidia|cuda|triton)\b", text, re.MULTILINE)


def test_every_file_of_pins_is_the_input_of_a_lock():
    files = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "requirements").glob("*.txt")}

    assert files - UNLOCKED == {path for paths in INPUTS.values() for path in paths} - UNLOCKED - {
        "requirements.txt"
    }
    assert {
        *DEPLOYING,
        SERVING,
        DEVELOPMENT,
        SDK,
        VALIDATORS,
        *PEERS,
        *CLIENTS,
        "tools",
        "node",
    } <= INPUTS.keys()


def test_no_lock_is_without_inputs():
    assert {path.stem for path in (REPOSITORY / lock_of("cdk")).parent.iterdir()} == INPUTS.keys()


def test_what_bundles_are_installed_with_is_what_environments_are():
    tools, cdk = pins_of(REPOSITORY / lock_of("tools")), pins_of(REPOSITORY / lock_of("cdk"))

    assert tools["uv"] == cdk["uv"]


def test_what_jobs_install_is_in_the_environment_that_runs_them_on_a_laptop():
    jobs = pins_of(REPOSITORY / "requirements" / "jobs.txt")

    assert jobs.items() <= pins_of(REPOSITORY / lock_of(SERVING)).items()
