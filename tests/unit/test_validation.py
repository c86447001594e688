"""What `make validate` makes of findings: the acknowledgements, and what it reads out of templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.validation import tools
from tests.validation.findings import Acknowledgement, Finding, judge, load
from tests.validation.templates import FAULTY, Template, policy_actions, state_machines

REASON = "A reason that says why this may stand."


def row(rule: str = "R1", *resources: str, tool: str = "checkov") -> Acknowledgement:
    return Acknowledgement(tool=tool, rule=rule, resources=resources or ("*",), reason=REASON)


def finding(rule: str = "R1", resource: str = "WorkTable1A", tool: str = "checkov") -> Finding:
    return Finding(tool, rule, "prod--data", resource, "it says")


def test_what_no_row_accepts_is_open() -> None:
    found = [finding(), finding("R2"), finding(resource="Artefacts"), finding(tool="cfn-guard")]

    judgement = judge(found, [row("R1", "WorkTable*")], {"checkov", "cfn-guard"})

    assert judgement.open == sorted(found[1:])
    assert judgement.unused == []


def test_a_pattern_that_nothing_needs_is_named() -> None:
    judgement = judge([finding()], [row("R1", "WorkTable*", "Gone*"), row("R9")], {"checkov"})

    assert judgement.open == []
    assert judgement.unused == ["checkov R1: Gone*", "checkov R9: *"]


def test_rows_of_tools_that_have_not_run_are_not_missed() -> None:
    assert judge([], [row(tool="zizmor")], {"checkov"}).unused == []


@pytest.mark.parametrize("change", [{"reason": "because"}, {"resources": ()}, {"because": "x"}])
def test_a_row_needs_a_reason_and_resources(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Acknowledgement.model_validate(row().model_dump() | change)


def test_every_shipped_row_is_of_a_tool_that_runs_and_there_once() -> None:
    rows = load()

    assert {each.tool for each in rows} <= tools.TOOLS.keys()
    assert len({(each.tool, each.rule) for each in rows}) == len(rows)


@pytest.fixture
def faulty(tmp_path: Path) -> Template:
    path = tmp_path / "planted--faults.json"
    path.write_text(json.dumps(FAULTY))
    return Template(path.stem, path, "us-east-1")


def test_actions_of_every_policy_are_read_trust_policies_too(faulty: Template) -> None:
    assert sorted(policy_actions(faulty)) == [("Role", "s3:GetEverything"), ("Role", "sts:AssumeRole")]


def test_a_definition_has_an_arn_for_each_substitution(tmp_path: Path) -> None:
    machine: dict[str, Any] = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {
            "DefinitionString": '{"Resource": "${Release}"}',
            "DefinitionSubstitutions": {"Release": {"Fn::GetAtt": ["Release", "Arn"]}},
        },
    }
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"Resources": {"Machine": machine}}))
    (found,) = state_machines(Template("t", path, "us-east-1"))
    assert found == ("Machine", '{"Resource": "arn:aws:lambda:us-east-1:123456789012:function:Release"}')

    machine["Properties"]["DefinitionString"] = (
        '{"Arguments": {"Parameters": "{% [\\n1] %}"}, "Cause": "a\\nb"}'
    )
    path.write_text(json.dumps({"Resources": {"Machine": machine}}))
    ((_, definition),) = state_machines(Template("t", path, "us-east-1"))
    assert json.loads(definition) == {"Arguments": {"Parameters": "{% [ 1] %}"}, "Cause": "a\nb"}

    machine["Properties"]["DefinitionString"] = '{"Resource": "${Release}"}'
    del machine["Properties"]["DefinitionSubstitutions"]
    path.write_text(json.dumps({"Resources": {"Machine": machine}}))
    with pytest.raises(AssertionError, match="substitution of Machine is missing"):
        list(state_machines(Template("t", path, "us-east-1")))


def test_cfn_lint_finds_the_planted_fault(faulty: Template) -> None:
    assert {found.resource for found in tools.cfn_lint([faulty])} >= {"Bucket"}


def test_a_validator_that_is_not_installed_says_how_to_get_it(
    faulty: Template, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tools, "BIN", tmp_path)
    with pytest.raises(tools.ToolError, match="make validators"):
        list(tools.checkov([faulty]))
