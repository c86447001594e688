"""An upgrade from the last release neither removes nor replaces what holds data and what callers know.

The baseline is the last release's production templates, cut down to such resources: logical id, type,
deletion policy and the properties whose change replaces the resource. After a release: UPDATE_BASELINE=1.
"""

from __future__ import annotations

import copy
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

BASELINE = Path(__file__).parent / "baseline.json"
STACKS = ("data", "serving", "gateway", "monitoring", "refresh")
HOLDS = (
    "AWS::S3::Bucket",
    "AWS::DynamoDB::Table",
    "AWS::KMS::Key",
    "AWS::Logs::LogGroup",
    "AWS::SQS::Queue",
    "AWS::SecretsManager::Secret",
    "AWS::SageMaker::ModelPackageGroup",
    # What callers, operators and other systems know by name or address
    "AWS::SageMaker::Endpoint",
    "AWS::ApiGateway::RestApi",
    "AWS::ApiGateway::UsagePlan",
    "AWS::SNS::Topic",
    "AWS::StepFunctions::StateMachine",
    "AWS::SSM::Parameter",
)
# Not create-only in the schema, but replaced all the same: AWS CloudFormation's resource reference.
ALSO_REPLACED = {
    "AWS::DynamoDB::Table": ["KeySchema", "LocalSecondaryIndexes"],
    "AWS::ApiGateway::RestApi": ["EndpointConfiguration"],
}
RETAINED = ("Retain", "RetainExceptOnCreate")

Held = dict[str, dict[str, Any]]


@cache
def replacing(kind: str) -> list[str]:
    """Top-level properties whose change replaces a resource of this type."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    paths = [*schema.get("createOnlyProperties", []), *schema.get("conditionalCreateOnlyProperties", [])]
    return sorted({path.split("/")[2] for path in paths} | set(ALSO_REPLACED.get(kind, [])))


def held(template: dict[str, Any]) -> Held:
    """What a template holds data in, with what would replace it."""
    return {
        name: {
            "Type": resource["Type"],
            "DeletionPolicy": resource.get("DeletionPolicy", "Delete"),
            "Replacing": {
                key: resource["Properties"][key]
                for key in replacing(resource["Type"])
                if key in resource.get("Properties", {})
            },
        }
        for name, resource in sorted(template["Resources"].items())
        if resource["Type"] in HOLDS
    }


def losses(before: Held, now: Held) -> list[str]:
    """What an upgrade would lose, in words."""
    found = []
    for name, old in before.items():
        new = now.get(name)
        if new is None or new["Type"] != old["Type"]:
            found.append(f"{name} ({old['Type']}) is removed")
        elif new["Replacing"] != old["Replacing"]:
            found.append(f"{name} ({old['Type']}) is replaced")
        elif old["DeletionPolicy"] in RETAINED and new["DeletionPolicy"] not in RETAINED:
            found.append(f"{name} ({old['Type']}) is no longer retained")
    return found


@pytest.fixture(scope="module")
def baseline(template_json) -> dict[str, Held]:
    if os.environ.get("UPDATE_BASELINE") == "1":
        written = {stack: held(template_json("prod", stack)) for stack in STACKS}
        BASELINE.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
    return json.loads(BASELINE.read_text())


@pytest.mark.parametrize("stack", STACKS)
def test_an_upgrade_loses_nothing(baseline, template_json, stack):
    assert losses(baseline[stack], held(template_json("prod", stack))) == []


def test_the_baseline_holds_the_tables_the_buckets_and_the_api(baseline):
    kinds = {each["Type"] for stack in baseline.values() for each in stack.values()}

    assert {"AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::KMS::Key", "AWS::ApiGateway::RestApi"} <= kinds


def table(baseline: dict[str, Held]) -> tuple[Held, str]:
    now = copy.deepcopy(baseline["data"])
    return now, next(name for name, each in now.items() if each["Type"] == "AWS::DynamoDB::Table")


def test_a_removed_table_is_a_loss(baseline):
    now, name = table(baseline)
    del now[name]

    assert losses(baseline["data"], now) == [f"{name} (AWS::DynamoDB::Table) is removed"]


def test_a_table_with_another_key_or_name_is_a_loss(baseline):
    now, name = table(baseline)
    now[name]["Replacing"]["TableName"] = "chosen"

    assert losses(baseline["data"], now) == [f"{name} (AWS::DynamoDB::Table) is replaced"]


def test_a_bucket_that_is_deleted_with_its_stack_is_a_loss(baseline):
    now = copy.deepcopy(baseline["data"])
    name = next(name for name, each in now.items() if each["DeletionPolicy"] == "Retain")
    now[name]["DeletionPolicy"] = "Delete"

    assert losses(baseline["data"], now) == [f"{name} ({now[name]['Type']}) is no longer retained"]


def test_a_further_table_is_none(baseline):
    now, name = table(baseline)
    now["Another"] = now[name]

    assert losses(baseline["data"], now) == []
