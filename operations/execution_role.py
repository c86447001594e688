"""Execution role and permissions boundary of each stack that the release loop updates: a step of `bootstrap`.

CDK's own execution role is an administrator unless it was bootstrapped otherwise. The template is
infra/bootstrap/execution_role.yaml; the stacks name what it makes (contracts.bootstrap).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import ClientError

from contracts import bootstrap
from infra.settings import Settings
from infra.settings.failover import FAILOVER
from operations.progress import CommandError, Step
from operations.stacks import describe_stack

TEMPLATE = Path(__file__).resolve().parent.parent / "infra" / "bootstrap" / "execution_role.yaml"
_DEAD = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")
_MADE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
_NOTHING_TO_DO = "No updates are to be performed"


def bounded_stacks(settings: Settings) -> Iterator[tuple[str, str]]:
    """Region and name of each stack that has an execution role of its own."""
    yield settings.environment.region, f"{settings.prefix}-serving"
    if settings.failover:
        yield settings.failover.region, f"{settings.prefix}-{FAILOVER}"


def make_execution_role(cloudformation: Any, stack_name: str, endpoint_name: str, step: Step) -> None:
    """Create or update the role of one stack, in the region of the client; asked again it changes nothing.

    Raises CommandError with the first failed resource.
    """
    name, region = bootstrap.bootstrap_stack(stack_name), cloudformation.meta.region_name
    found = describe_stack(cloudformation, name)
    if found and found["StackStatus"] in _DEAD:  # such a stack can only be deleted
        cloudformation.delete_stack(StackName=name)
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=name)
        found = None
    values = {
        "Stack": stack_name,
        "Endpoint": endpoint_name,
        "RoleName": bootstrap.execution_role(stack_name, region),
        "BoundaryName": bootstrap.permissions_boundary(stack_name, region),
    }
    request = {
        "StackName": name,
        "TemplateBody": json.dumps(_template()),  # as CDK sends its templates
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
    }
    if found is None:
        cloudformation.create_stack(**request)
    else:
        try:
            cloudformation.update_stack(**request)
        except ClientError as error:
            if _NOTHING_TO_DO not in error.response["Error"]["Message"]:
                raise
            step.note = "already there"
            return
    _wait(cloudformation, name)


def is_current(cloudformation: Any, stack_name: str) -> bool | None:
    """Whether the role of one stack is the one that this checkout makes; None where there is none."""
    name = bootstrap.bootstrap_stack(stack_name)
    found = describe_stack(cloudformation, name)
    if found is None or found["StackStatus"] not in _MADE:
        return None
    body = cloudformation.get_template(StackName=name)["TemplateBody"]
    return bool((json.loads(body) if isinstance(body, str) else body) == _template())


def _template() -> dict[str, Any]:
    return dict(yaml.safe_load(TEMPLATE.read_text()))


def _wait(cloudformation: Any, name: str) -> None:
    """Until the stack rests. The waiters' own error would say nothing of the cause."""
    while (status := (describe_stack(cloudformation, name) or {})["StackStatus"]).endswith("_IN_PROGRESS"):
        time.sleep(1)
    if status in _MADE[:2]:
        return
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    causes = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
        for event in events
        if event["ResourceStatus"].endswith("_FAILED")
    ]
    raise CommandError(f"{name} is {status}: {causes[-1] if causes else 'see its events'}")
