"""One role of an environment may update a stack, and its state machine sends no template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.api import ManualArgs, lint

from infra.constructs.stack_update import update_poll_seconds

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ("local", "dev", "prod", "two-regions")
READS = ("cloudformation:Describe", "cloudformation:Get", "cloudformation:List")
# What lets a principal change code, rights or a definition, and through them do what it may not do itself.
ESCALATES = (
    *("iam:Create", "iam:Put", "iam:Attach", "iam:Update", "iam:Delete", "iam:Add", "iam:Set"),
    *(
        "lambda:Update",
        "lambda:Create",
        "lambda:Add",
        "states:UpdateStateMachine",
        "states:CreateStateMachine",
    ),
    *("sts:AssumeRole", "cloudformation:"),
)


@pytest.fixture(scope="session")
def definition() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "infra" / "state_machines" / "update_stack.asl.yaml").read_text())


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def grants(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Template, role, action and resource of every statement in an assembly's policies that allows."""
    for path in sorted(folder.glob("*.template.json")):
        for resource in json.loads(path.read_text())["Resources"].values():
            if resource["Type"] not in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
                continue
            properties = resource["Properties"]
            for role in properties["Roles"]:
                for statement in properties["PolicyDocument"]["Statement"]:
                    for action in listed(statement["Action"]):
                        yield path.name, role["Ref"], action, json.dumps(statement["Resource"])


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_exactly_one_role_of_a_region_may_update_a_stack(assembly, env):
    writes = {
        (template, role, action)
        for template, role, action, _ in grants(assembly(env))
        if action.startswith("cloudformation:") and not action.startswith(READS)
    }

    expected = {("refresh", "ServingUpdateRole")}
    if env == "two-regions":
        expected.add(("failover-update", "FailoverUpdateRole"))
    assert {action for _, _, action in writes} == {"cloudformation:UpdateStack"}
    assert {
        (template.removeprefix(f"evergreen-{env}-").removesuffix(".template.json"), role[:-8])
        for template, role, _ in writes
    } == expected


@pytest.mark.parametrize("env", [*ENVIRONMENTS, "staging", "async", "serverless", "scale-to-zero", "pools"])
def test_no_function_may_change_a_stack_a_role_a_function_or_a_state_machine(assembly, env):
    functions = [
        resource["Properties"]["Role"]["Fn::GetAtt"][0]
        for path in assembly(env).glob("*.template.json")
        for resource in json.loads(path.read_text())["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function"
    ]
    assert functions or env == "async"

    held = {
        (role, action)
        for _, role, action, _ in grants(assembly(env))
        if role in functions and action.startswith(ESCALATES) and not action.startswith(READS)
    }
    assert held == set()


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_its_role_reaches_one_stack(assembly, env):
    for _, role, action, resource in grants(assembly(env)):
        if role.startswith("ServingUpdateRole") and action.startswith("cloudformation:"):
            assert f":stack/evergreen-{env}-serving/*" in resource, action
    others = [
        action
        for _, role, action, _ in grants(assembly(env))
        if role.startswith("ServingUpdateRole") and not action.startswith(("logs:", "xray:"))
    ]
    assert set(others) == {
        *("cloudformation:DescribeStacks", "cloudformation:DescribeStackEvents"),
        *("cloudformation:UpdateStack", "ssm:GetParameters"),
    }


def test_the_template_is_the_previous_one_whatever_the_input_says(definition):
    changing = {
        name: state
        for name, state in definition["States"].items()
        if state["Type"] == "Task" and ":describe" not in state["Resource"]
    }

    assert list(changing) == ["UpdateStack"]
    arguments = changing["UpdateStack"]["Arguments"]
    assert arguments["UsePreviousTemplate"] is True
    assert arguments["StackName"] == "${StackName}"
    assert arguments.keys() == {
        *("StackName", "UsePreviousTemplate", "Parameters", "Capabilities", "ClientRequestToken")
    }


@pytest.mark.parametrize(("env", "stack"), [("prod", "serving"), ("two-regions", "failover")])
def test_what_may_change_are_the_releases_parameters(definition, template_json, env, stack):
    allowed = definition["States"]["ReadInput"]["Assign"]["allowed"]
    parameters = template_json(env, stack)["Parameters"].keys()

    assert parameters - set(allowed) == {"BootstrapVersion", "Scaling"} & parameters
    if stack == "serving":
        assert set(allowed) - parameters == {"Rollout"}  # of templates before the guardrails' parameters


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_its_definition_is_in_the_states_language(resources, env):
    machines = resources(env, "refresh", "AWS::StepFunctions::StateMachine")
    (made,) = [one["Properties"] for name, one in machines.items() if name.startswith("ServingUpdate")]
    text = made["DefinitionString"]
    for name, value in made["DefinitionSubstitutions"].items():
        assert f"${{{name}}}" in text, f"{name} is used nowhere"
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text
    properties = {"RoleArn": "arn:aws:iam::123456789012:role/r", "Definition": json.loads(text)}
    template = {"Resources": {"M": {"Type": "AWS::StepFunctions::StateMachine", "Properties": properties}}}

    found = lint(json.dumps(template), config=ManualArgs(regions=["us-east-1"]))

    assert [str(match) for match in found] == []


@pytest.mark.parametrize(("loop", "expected"), [(2, 2), (30, 30), (180, 30)])
def test_an_update_is_looked_at_often_and_its_history_holds_the_looks(loop, expected):
    seconds = update_poll_seconds(loop)
    assert seconds == expected
    if loop > 15:  # a laptop looks more often, and none of its updates lasts hours
        assert 8 * 3600 / seconds * 12 < 25_000
