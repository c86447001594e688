"""The linters' rules can fail: each breach, put into a copy of the sources, is reported."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PACKAGES = ("contracts", "evaluation", "infra", "lambdas", "local", "model_code", "operations")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment in a folder."""
    tool, *arguments = command
    return subprocess.run(
        [BIN / tool, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the packages, their configuration and the contract that import-linter lacks."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=lambda folder, names: _not_python(folder, names)
        )
    (tmp_path / "tests" / "support").mkdir(parents=True)
    for name in ("tests/__init__.py", "tests/support/__init__.py", "tests/support/import_rules.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _not_python(folder: str, names: list[str]) -> set[str]:
    paths = [Path(folder, name) for name in names]
    return {
        path.name for path in paths if path.suffix != ".py" and not (path.is_dir() and path.name[0] != "_")
    }


def test_imports_that_the_contracts_forbid_are_reported(sources: Path) -> None:
    """The bundle lacks `evaluation.metrics`; a function that imports another one would ship it as well."""
    with (sources / "lambdas/jobs/handler.py").open("a") as file:
        file.write("\nimport evaluation.metrics\nimport lambdas.authorizer.tokens\n")
    line = len((sources / "lambdas/jobs/handler.py").read_text().splitlines())

    found = run(sources, "lint-imports", "--no-cache")
    report = " ".join(found.stdout.split())

    assert found.returncode == 1, found.stdout + found.stderr
    assert f"lambdas.jobs.handler imports evaluation.metrics (line {line - 1})" in report
    assert f"lambdas.jobs.handler imports lambdas.authorizer.tokens (line {line})" in report
    assert "lambdas.jobs is not allowed to import lambdas.authorizer" in report


RUFF_BREACHES = [
    ("N818", "lambdas/jobs/breach.py", '"""Breach."""\n\n\nclass Broken(Exception):\n    """Breach."""\n'),
    (
        "SLF001",
        "local/cloud/breach.py",
        '"""Breach."""\n\nfrom pathlib import Path\n\nprint(Path()._private)\n',
    ),
    (
        "BLE001",
        "infra/breach.py",
        '"""Breach."""\n\ntry:\n    print()\nexcept Exception:\n    print("failed")\n',
    ),
]


@pytest.mark.parametrize(("rule", "path", "text"), RUFF_BREACHES, ids=[one[0] for one in RUFF_BREACHES])
def test_a_breach_of_style_is_reported(tmp_path: Path, rule: str, path: str, text: str) -> None:
    assert _ruff(tmp_path, path, text) == [rule]


def test_private_members_are_open_to_the_adapter_of_the_emulator_alone(tmp_path: Path) -> None:
    _, _, text = RUFF_BREACHES[1]

    assert _ruff(tmp_path, "local/cloud/ministack_adapter/breach.py", text) == []


def _ruff(folder: Path, path: str, text: str) -> list[str]:
    """The rules that a file breaks under the repository's configuration."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    file = folder / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    found = run(folder, "ruff", "check", "--no-cache", "--output-format", "concise", path)
    assert found.returncode in (0, 1), found.stderr
    return [line.split()[1] for line in found.stdout.splitlines() if line.startswith(f"{path}:")]


def test_a_function_without_types_is_reported(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file = tmp_path / "local" / "breach.py"
    file.parent.mkdir()
    file.write_text('"""Breach."""\n\n\ndef untyped(value):\n    return value\n')

    found = run(tmp_path, "mypy", "--follow-imports=silent", "--cache-dir", "cache", "local/breach.py")

    assert found.returncode == 1, found.stdout + found.stderr
    assert "[no-untyped-def]" in found.stdout
