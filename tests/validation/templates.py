"""Templates of every environment and endpoint kind, and what validators want out of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import synthesis

PLANTED = "planted"
_BUCKET = {"Type": "AWS::S3::Bucket", "Properties": {"VersioningConfiguration": {"Status": "Sometimes"}}}
_STATEMENT = {"Effect": "Allow", "Action": "s3:GetEverything", "Resource": "arn:aws:s3:::b/*"}
_ROLE = {
    "Type": "AWS::IAM::Role",
    "Properties": {
        "AssumeRolePolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": "sts:AssumeRole",
                    "Principal": {"Service": "lambda.amazonaws.com"},
                }
            ],
        },
        "Policies": [
            {"PolicyName": "p", "PolicyDocument": {"Version": "2012-10-17", "Statement": [_STATEMENT]}}
        ],
    },
}
_MACHINE = {
    "Type": "AWS::StepFunctions::StateMachine",
    "Properties": {
        "RoleArn": "arn:aws:iam::123456789012:role/r",
        "DefinitionString": json.dumps(
            {"StartAt": "First", "States": {"First": {"Type": "Pass", "Next": "There is none"}}}
        ),
    },
}
FAULTY = {"Resources": {"Bucket": _BUCKET, "Role": _ROLE, "Machine": _MACHINE}}
"""A fault for each validator. One that does not find it does not work, whatever it says of the others."""


@dataclass(frozen=True)
class Template:
    """A synthesized template. Its name is `<environment>--<stack>`."""

    name: str
    path: Path
    region: str

    @property
    def resources(self) -> dict[str, Any]:
        """Its resources by logical id."""
        resources: dict[str, Any] = json.loads(self.path.read_text())["Resources"]
        return resources


def every_template(folder: Path) -> list[Template]:
    """Synthesize everything below a folder, and put the templates side by side with the planted one."""
    side_by_side = folder / "templates"
    side_by_side.mkdir(parents=True)
    found = []
    for name in synthesis.names():
        assembly = synthesis.synthesize(name, folder / name)
        for stack in assembly.stacks:
            path = side_by_side / f"{name}--{stack.stack_name}.json"
            path.write_text(json.dumps(stack.template))
            found.append(Template(path.stem, path, stack.environment.region))
    path = side_by_side / f"{PLANTED}--faults.json"
    path.write_text(json.dumps(FAULTY))
    return [*found, Template(path.stem, path, "us-east-1")]


def policy_actions(template: Template) -> Iterator[tuple[str, str]]:
    """Logical id and action of every statement of every policy."""
    for logical_id, resource in template.resources.items():
        for statement in _statements(resource.get("Properties", {})):
            actions = statement.get("Action", statement.get("NotAction", []))
            for action in [actions] if isinstance(actions, str) else actions:
                yield logical_id, action


def _statements(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("Effect") in ("Allow", "Deny"):
            yield value
        for inner in value.values():
            yield from _statements(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _statements(inner)


def state_machines(template: Template) -> Iterator[tuple[str, str]]:
    """Logical id and definition of every state machine, with a well-formed ARN for each substitution."""
    for logical_id, resource in template.resources.items():
        if resource["Type"] == "AWS::StepFunctions::StateMachine":
            text = resource["Properties"]["DefinitionString"]
            for name, value in resource["Properties"].get("DefinitionSubstitutions", {}).items():
                literal = (
                    value
                    if isinstance(value, str)
                    else f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
                )
                text = text.replace(f"${{{name}}}", literal)
            assert not re.search(r"\$\{\w+\}", text), (
                f"{template.name}: a substitution of {logical_id} is missing"
            )
            yield logical_id, json.dumps(_expressions_on_one_line(json.loads(text)))


def _expressions_on_one_line(value: Any) -> Any:
    """The definition with each JSONata expression on one line: asl-validator's pattern knows no other."""
    if isinstance(value, dict):
        return {name: _expressions_on_one_line(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_expressions_on_one_line(inner) for inner in value]
    if isinstance(value, str) and value.startswith("{%"):
        return value.replace("\n", " ").strip()
    return value
