"""A condition that an action never carries allows nothing: the keys that only some actions have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = sorted(path.stem for path in Path(__file__).parents[1].glob("fixtures/settings/*.yaml"))
CARRIED_BY = {
    # Service authorization reference of KMS, condition keys of its actions
    "kms:GrantIsForAWSResource": {"kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"},
    "s3:prefix": {"s3:ListBucket", "s3:ListBucketVersions"},
    "cloudwatch:namespace": {"cloudwatch:PutMetricData"},
    "iam:PassedToService": {"iam:PassRole"},
}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(folder: Path) -> list[dict[str, Any]]:
    """Every statement of every role's policy."""
    return [
        statement
        for path in sorted(folder.glob("*.template.json"))
        for resource in json.loads(path.read_text())["Resources"].values()
        if resource["Type"] == "AWS::IAM::Policy"
        for statement in resource["Properties"]["PolicyDocument"]["Statement"]
    ]


@pytest.mark.parametrize("env", ["local", "dev", "staging", "prod", *EXAMPLES])
def test_every_action_carries_the_keys_of_its_condition(assembly, env):
    found = [
        (action, key)
        for statement in statements(assembly(env))
        for tests in statement.get("Condition", {}).values()
        for key in tests
        if key in CARRIED_BY
        for action in listed(statement["Action"])
        if action not in CARRIED_BY[key]
    ]

    assert found == []


@pytest.mark.parametrize("env", ["local", "neuron"])
def test_who_makes_grants_may_look_at_the_key(assembly, env):
    allowed: dict[str, list[Any]] = {"kms:CreateGrant": [], "kms:DescribeKey": []}
    for statement in statements(assembly(env)):
        for action in listed(statement["Action"]):
            if action in allowed:
                allowed[action] += listed(statement["Resource"])

    assert allowed["kms:CreateGrant"] == allowed["kms:DescribeKey"] != []
