"""Where the stacks put things: outputs by name, for commands that an operator runs."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError


class StackError(Exception):
    """A stack or one of its outputs is not there; the message names it."""


def describe_stack(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """A stack's description, or None when it does not exist."""
    try:
        return dict(cloudformation.describe_stacks(StackName=name)["Stacks"][0])
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return None
        raise


def stack_output(cloudformation: Any, env: str, stack: str, name: str) -> str:
    """An output of `evergreen-<env>-<stack>`. Raises StackError."""
    stack_name = f"evergreen-{env}-{stack}"
    try:
        found = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
    except ClientError as error:
        raise StackError(f"stack {stack_name}: {error.response['Error'].get('Message')}") from error
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    if name not in outputs:
        raise StackError(f"stack {stack_name} has no output {name}")
    return str(outputs[name])
