"""Names of what `bootstrap` makes for a stack that a state machine updates; stacks name it by these alone.

A serving stack is deployed and updated by a CloudFormation execution role of its own, and every role that it
makes carries a permissions boundary: infra/bootstrap/execution_role.yaml.
"""

from __future__ import annotations

import hashlib

_LONGEST_ROLE_NAME = 64
_DIGITS = 8


def bootstrap_stack(stack_name: str) -> str:
    """The stack that holds the execution role of the stack `stack_name`."""
    return f"{stack_name}-bootstrap"


def execution_role(stack_name: str, region: str) -> str:
    """Name of the execution role. Roles belong to all regions, so the name holds the region."""
    name = f"{stack_name}-cfn-{region}"
    if len(name) <= _LONGEST_ROLE_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{name[: _LONGEST_ROLE_NAME - _DIGITS - 1]}-{digest}"


def permissions_boundary(stack_name: str, region: str) -> str:
    """Name of the policy that bounds the roles of the stack `stack_name`."""
    return f"{stack_name}-boundary-{region}"


def role_path(stack_name: str) -> str:
    """Path of the stack's roles. A path is never shortened, as CloudFormation shortens the names it draws."""
    return f"/{stack_name}/"
