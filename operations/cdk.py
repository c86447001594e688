"""The CDK command line for one environment: its assembly, and commands with the target's account and region.

Runs the pinned `cdk` of node_modules and the `cdk` environment's Python; needs Node.js on PATH.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from operations.laptop import REPOSITORY, home
from operations.progress import CommandError, Step
from operations.target import Target

COMMAND_SECONDS = 4 * 3600
"""Longer than a guarded update of an endpoint with its baking time."""
_SYNTH_SECONDS = 1200
_STACK = "aws:cloudformation:stack"
# What the templates and the functions' bundles are made of.
_SOURCES = (
    "app.py",
    "cdk.json",
    "requirements.txt",
    "requirements",
    "settings",
    "infra",
    "lambdas",
    "contracts",
    "evaluation",
    "model_code/training",
)


@dataclass(frozen=True)
class StackPlace:
    """One stack of an assembly, and where it is deployed."""

    name: str
    region: str


def venvs() -> Path:
    """The folder of the Python environments."""
    return Path(os.environ.get("EVERGREEN_VENVS", REPOSITORY / ".evergreen" / "venvs")).resolve()


def python(environment: str) -> Path:
    """The interpreter of one environment. Raises CommandError where it has not been made."""
    found = venvs() / environment / "bin" / "python"
    if not found.exists():
        raise CommandError(
            f"The environment '{environment}' is missing in {venvs()}: run `make environments`."
        )
    return found


def synthesize(env: str, step: Step) -> Path:
    """The assembly of an environment, made again only where its sources have changed; returns its folder."""
    folder = home() / "cdk.out" / env
    digest, mark = _digest(), folder.with_name(f"{env}.sha256")
    if mark.exists() and mark.read_text() == digest and (folder / "manifest.json").exists():
        step.note = "nothing changed"
        return folder
    mark.unlink(missing_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    words: list[str | Path] = [_program(), "synth", "-q", "-c", f"env={env}", "--output", folder]
    step.run(
        [*words, "--app", f"{python('cdk')} app.py"],
        cwd=REPOSITORY,
        env=_quiet(os.environ),
        timeout=_SYNTH_SECONDS,
    )
    mark.write_text(digest)
    return folder


def stacks(assembly: Path) -> list[StackPlace]:
    """The assembly's stacks, in the order of their names."""
    manifest = json.loads((assembly / "manifest.json").read_text())
    return sorted(
        (
            StackPlace(
                str(entry.get("properties", {}).get("stackName", key)),
                str(entry["environment"]).rpartition("/")[2],
            )
            for key, entry in manifest["artifacts"].items()
            if entry["type"] == _STACK
        ),
        key=lambda place: place.name,
    )


def run_cdk(
    target: Target, step: Step, words: Sequence[str | Path], *, cwd: Path = REPOSITORY, attached: bool = False
) -> None:
    """Runs `cdk` with the target's account and region; `attached` where it asks at this terminal."""
    command = [_program(), *words]
    environment = _quiet(dict(target.environment))
    if attached:
        step.attached(command, env=environment, cwd=cwd)
    else:
        step.run(
            command, env=environment | {"CI": "true"}, cwd=cwd, timeout=COMMAND_SECONDS, ends_with_parent=True
        )


def _program() -> Path:
    found = REPOSITORY / "node_modules" / ".bin" / "cdk"
    if not found.exists():
        raise CommandError("The CDK command line is not installed: run `make environments`.")
    return found


def _quiet(environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    return dict(environment) | {"CDK_DISABLE_CLI_TELEMETRY": "true"}


def _digest() -> str:
    digest = hashlib.sha256()
    for name in _SOURCES:
        root = REPOSITORY / name
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(REPOSITORY)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
