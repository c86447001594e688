"""The delivery stack of an environment, as tests of its roles need it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aws_cdk as cdk

from infra.compose import compose
from infra.settings import Settings, load
from tests.support import synthesis

SECTION: dict[str, Any] = {
    "provider": "create",
    "github": {
        "repository": "example/ml-platform",
        "environments": ["staging"],
        "branches": ["main"],
        "pull_requests": True,
    },
}
Resources = dict[str, dict[str, Any]]


def settings(env: str, **changes: Any) -> Settings:
    """A shipped or example environment with the section, some of its keys changed."""
    folder = synthesis.EXAMPLES if (synthesis.EXAMPLES / f"{env}.yaml").exists() else synthesis.SHIPPED
    return Settings.model_validate(load(env, folder).model_dump() | {"delivery": SECTION | changes})


def synthesize(given: Settings, folder: Path) -> Resources:
    """Synthesize everything into a folder; the resources of the delivery stack."""
    app = cdk.App(context=synthesis.context(), outdir=str(folder))
    compose(app, given)
    app.synth()
    template = json.loads((folder / f"{given.prefix}-delivery.template.json").read_text())
    resources: Resources = template["Resources"]
    return resources


def statements(resources: Resources, purpose: str, account: str) -> list[dict[str, Any]]:
    """What a role may do (`Deploy`, `Diff`), with its resources written out as a list of ARNs."""
    (document,) = [
        each["Properties"]["PolicyDocument"]
        for each in resources.values()
        if each["Type"] == "AWS::IAM::Policy" and each["Properties"]["PolicyName"].startswith(purpose)
    ]
    return [each | {"Resource": _arns(each["Resource"], account)} for each in document["Statement"]]


def arn(value: Any, account: str) -> str:
    """An ARN with its pseudo parameters written out."""
    if isinstance(value, dict):
        ((function, argument),) = value.items()
        if function == "Ref":
            return {"AWS::Partition": "aws", "AWS::AccountId": account}[argument]
        return str(argument[0]).join(arn(part, account) for part in argument[1])
    return str(value)


def _arns(value: Any, account: str) -> list[str]:
    return [arn(each, account) for each in (value if isinstance(value, list) else [value])]
