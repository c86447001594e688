"""The emulator's private names: which of them are used, and that they are still there."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.emulator import ACCOUNT, REGION, VENVS
from tests.support.laptop import REPOSITORY

HIDDEN = """
import importlib, sys
from local.cloud.ministack_adapter import missing_names
module, _, name = sys.argv[1].partition(":")
delattr(importlib.import_module(module), name)
print("\\n".join(missing_names()))
"""


PRINT = "from local.cloud import ministack_adapter as m; print('; '.join(m.{}()) or 'complete')"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the emulator's environment."""
    environment = {
        "PATH": os.environ["PATH"],
        "AUTH": "true",
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
    }
    command = [VENVS / "cloud" / "bin" / "python", "-c", code, *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )


def test_every_private_name_is_still_there() -> None:
    done = run(PRINT.format("missing_names"))

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "complete"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("ministack.services.lambda_svc", "_execute_function"),
        ("ministack.services.cloudformation.provisioners", "_RESOURCE_HANDLERS"),
        ("ministack.core.iam_evaluator", "enforce"),
    ],
)
def test_a_name_that_disappeared_is_named_in_plain_words(module: str, name: str) -> None:
    done = run(HIDDEN, f"{module}:{name}")

    assert f"{module} no longer has `{name}`: see its use in local/cloud/" in done.stdout, done.stderr


def test_no_private_name_is_used_that_is_not_listed() -> None:
    done = run(PRINT.format("unlisted_names"))

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "complete"
