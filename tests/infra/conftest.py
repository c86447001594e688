"""Each environment is synthesized once per test session; tests read the templates.

Bundles are not built here (a custom asset hash names them all the same): test_bundle.py builds one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aws_cdk.assertions import Template

from tests.support import synthesis

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ("local", "dev", "prod")
STACKS = ("data", "serving", "gateway", "monitoring", "refresh")


@pytest.fixture(scope="session")
def context() -> dict[str, Any]:
    """What cdk.json tells the CLI, which an app in process does not read by itself."""
    return synthesis.context()


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`assembly(env)` is the folder of the synthesized environment; synth runs policy and nag."""

    @cache
    def synthesize(env: str) -> Path:
        folder = tmp_path_factory.mktemp(f"cdk-{env}")
        synthesis.synthesize(env, folder)
        return folder

    return synthesize


@pytest.fixture(scope="session")
def template_file(assembly: Callable[[str], Path]) -> Callable[[str, str], Path]:
    """`template_file(env, stack)` is the template as CloudFormation gets it."""
    return lambda env, stack: assembly(env) / f"evergreen-{env}-{stack}.template.json"


@pytest.fixture(scope="session")
def template_json(template_file: Callable[[str, str], Path]) -> Callable[[str, str], dict[str, Any]]:
    """`template_json(env, stack)` is the parsed template."""
    return lambda env, stack: json.loads(template_file(env, stack).read_text())


@pytest.fixture(scope="session")
def template(template_json: Callable[[str, str], dict[str, Any]]) -> Callable[[str, str], Template]:
    """`template(env, stack)` answers CDK's fine-grained assertions."""

    @cache
    def assertions(env: str, stack: str) -> Template:
        return Template.from_json(template_json(env, stack))

    return assertions


@pytest.fixture(scope="session")
def resources(
    template_json: Callable[[str, str], dict[str, Any]],
) -> Callable[[str, str, str], dict[str, Any]]:
    """`resources(env, stack, type)` maps logical ids to whole resources of one type."""

    def of_type(env: str, stack: str, kind: str) -> dict[str, Any]:
        found = template_json(env, stack)["Resources"]
        return {name: resource for name, resource in found.items() if resource["Type"] == kind}

    return of_type


@pytest.fixture(scope="session")
def everything(assembly: Callable[[str], Path]) -> SimpleNamespace:
    """`prod` with every option of the API on: its folder, and its gateway as `template` and `resources`."""
    folder = assembly(synthesis.EVERY_OPTION)
    template = json.loads((folder / "evergreen-prod-gateway.template.json").read_text())

    def of_kind(env: str, stack: str, kind: str) -> dict[str, Any]:
        return {name: found for name, found in template["Resources"].items() if found["Type"] == kind}

    return SimpleNamespace(folder=folder, template=template, resources=of_kind)
