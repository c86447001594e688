"""What each of our roles is allowed, as deployed, and how to take one thing away for a while.

A grant is named `service:Action`, with `@Table` behind it for DynamoDB, where one action on two tables is two
grants. Roles go by their names in the templates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.laptop import Laptop

_HASH = re.compile(r"[0-9A-F]{8}$")
_TABLE = re.compile(r":table/evergreen-[a-z]+-data-([A-Za-z]+)[0-9A-F]{8}-")
Statement = dict[str, Any]


@dataclass(frozen=True)
class Role:
    """A role: its name in the template without its hash, and the one that CloudFormation gave it."""

    name: str
    physical: str


def roles(laptop: Laptop) -> list[Role]:
    """Every role of our stacks but CloudFormation's own: tests/infra/test_execution_role.py is about it."""
    cloudformation = laptop.aws("cloudformation")
    ours = [
        stack["StackName"]
        for stack in cloudformation.describe_stacks()["Stacks"]
        if stack["StackName"].startswith("evergreen-") and not stack["StackName"].endswith("-bootstrap")
    ]
    resources = [
        resource
        for stack in ours
        for resource in cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    ]
    return [
        Role(_HASH.sub("", resource["LogicalResourceId"]), resource["PhysicalResourceId"].rpartition("/")[2])
        for resource in resources
        if resource["ResourceType"] == "AWS::IAM::Role"
    ]


def grants(laptop: Laptop, role: Role) -> set[str]:
    """All that a role is allowed. A managed policy is one grant, by its name."""
    attached = laptop.aws("iam").list_attached_role_policies(RoleName=role.physical)["AttachedPolicies"]
    found = {f"managed:{policy['PolicyName']}" for policy in attached}
    for document in _documents(laptop, role).values():
        for statement in document["Statement"]:
            assert statement["Effect"] == "Allow", f"{role.name}: a denial is no grant"
            found |= {_grant(action, statement) for action in _listed(statement["Action"])}
    return found


@contextmanager
def lacking(laptop: Laptop, role: Role, grant: str) -> Iterator[None]:
    """Takes a grant from a role for the length of the block."""
    iam = laptop.aws("iam")
    whole = _documents(laptop, role)
    changed = {
        name: left for name, document in whole.items() if (left := _without(document, grant)) != document
    }
    assert changed, f"{role.name} is not allowed {grant}"
    _put(iam, role, changed)
    try:
        yield
    finally:
        _put(iam, role, {name: whole[name] for name in changed})


def _put(iam: Any, role: Role, documents: dict[str, Any]) -> None:
    for name, document in documents.items():
        iam.put_role_policy(RoleName=role.physical, PolicyName=name, PolicyDocument=json.dumps(document))


def _documents(laptop: Laptop, role: Role) -> dict[str, Any]:
    iam = laptop.aws("iam")
    return {
        name: iam.get_role_policy(RoleName=role.physical, PolicyName=name)["PolicyDocument"]
        for name in iam.list_role_policies(RoleName=role.physical)["PolicyNames"]
    }


def _without(document: dict[str, Any], grant: str) -> dict[str, Any]:
    statements = []
    for statement in document["Statement"]:
        left = [action for action in _listed(statement["Action"]) if _grant(action, statement) != grant]
        if left:
            statements.append(statement | {"Action": left if len(left) > 1 else left[0]})
    return document | {"Statement": statements}


def _grant(action: str, statement: Statement) -> str:
    tables = {match[1] for arn in _listed(statement["Resource"]) if (match := _TABLE.search(arn))}
    return f"{action}@{tables.pop()}" if action.startswith("dynamodb:") and len(tables) == 1 else action


def _listed(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]
