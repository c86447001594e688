"""Synthesizes the shipped environments, the examples of other endpoint kinds, and one with every option on.

Bundles are not built (a custom asset hash names them all the same).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import cx_api

from infra.compose import compose
from infra.settings import load
from tests.support import environments

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "settings"
EXAMPLES = ROOT / "tests" / "fixtures" / "settings"
EVERY_OPTION = "every-option"


def context() -> dict[str, Any]:
    """What cdk.json tells the command line, which an app in process does not read by itself."""
    found: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
    return found | {"aws:cdk:bundling-stacks": []}


def names() -> list[str]:
    """Everything that `synthesize` knows."""
    files = [*sorted(SHIPPED.glob("*.yaml")), *sorted(EXAMPLES.glob("*.yaml"))]
    return [*(path.stem for path in files), EVERY_OPTION]


def synthesize(name: str, folder: Path) -> cx_api.CloudAssembly:
    """Synthesize one of `names` into a folder; runs policy and nag."""
    app = cdk.App(context=context(), outdir=str(folder))
    if name == EVERY_OPTION:
        compose(app, environments.settings())
    else:
        compose(app, load(name, EXAMPLES if (EXAMPLES / f"{name}.yaml").exists() else SHIPPED))
    return app.synth()
