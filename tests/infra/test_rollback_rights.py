"""SageMaker reads an update's alarms in the name of the endpoint's role: it may describe each of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = sorted(path.stem for path in Path(__file__).parents[1].glob("fixtures/settings/*.yaml"))
UNGUARDED = {"local", "dev", "neuron", "async", "serverless"}  # their updates shift all traffic at once


def alarm_names(value: Any) -> Iterator[Any]:
    """Names of all rollback alarms anywhere in a resource."""
    if isinstance(value, dict):
        for alarm in value.get("AutoRollbackConfiguration", {}).get("Alarms", []):
            yield alarm["AlarmName"]
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from alarm_names(each)


def describable(resources: dict[str, Any]) -> list[Any]:
    """What the endpoint's role may describe."""
    return [
        place
        for name, policy in resources.items()
        if policy["Type"] == "AWS::IAM::Policy" and name.startswith(("ExecutionRole", "ModelExecutionRole"))
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if "cloudwatch:DescribeAlarms" in statement["Action"]
        for place in (
            statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        )
    ]


@pytest.mark.parametrize("env", ["local", "dev", "staging", "prod", *EXAMPLES])
def test_the_role_may_describe_every_rollback_alarm_and_no_other(assembly, env):
    guarded = 0
    for path in assembly(env).glob("*.template.json"):
        resources = json.loads(path.read_text())["Resources"]
        names = [name for resource in resources.values() for name in alarm_names(resource)]
        allowed = describable(resources)
        guarded += len(names)
        if any(isinstance(name, str) for name in names):
            assert allowed == ["*"]  # a named one may be composite, which takes this scope
        else:
            ours = sorted({name["Ref"] for name in names})
            assert sorted(place["Fn::GetAtt"][0] for place in allowed) == ours
            assert all(place["Fn::GetAtt"][1] == "Arn" for place in allowed)

    assert bool(guarded) == (env not in UNGUARDED)


@pytest.mark.parametrize("env", ["local", "dev", "staging", "prod", *EXAMPLES])
def test_the_stack_names_its_rollback_alarms_for_whoever_looks_for_a_cause(assembly, env):
    for path in assembly(env).glob("*.template.json"):
        template = json.loads(path.read_text())
        names = {
            name if isinstance(name, str) else name["Ref"]
            for resource in template["Resources"].values()
            for name in alarm_names(resource)
        }
        output = template.get("Outputs", {}).get("RollbackAlarms", {"Value": ""})["Value"]
        parts = [output] if isinstance(output, str) or "Ref" in output else output["Fn::Join"][1]
        words = [part["Ref"] if isinstance(part, dict) else part for part in parts]

        assert {word for part in words for word in part.split(",") if word} == names
