"""What a state machine's role must be allowed for each kind of task that is not a request of its own.

Pure: from a task's resource and input to actions on ARNs. Calls to AWS APIs are not here: they are made with
the role's credentials, so the service itself refuses them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_MANAGED_RULES = {
    "sagemaker:createTrainingJob.sync": "StepFunctionsGetEventsForSageMakerTrainingJobsRule",
    "sagemaker:createProcessingJob.sync": "StepFunctionsGetEventsForSageMakerProcessingJobsRule",
    "states:startExecution.sync": "StepFunctionsGetEventsForStepFunctionsExecutionRule",
}
_RULE_ACTIONS = ("events:PutTargets", "events:PutRule", "events:DescribeRule")
_PREFIX = "arn:aws:states:::"


class TaskPermission(NamedTuple):
    """An action on a resource under conditions."""

    action: str
    resource: str
    context: Mapping[str, str] = {}


def of_task(resource: str, data: Any, account: str, region: str) -> list[TaskPermission]:
    """What a task needs before it may run."""
    if resource.startswith(f"{_PREFIX}lambda:invoke"):
        return [
            TaskPermission(
                "lambda:InvokeFunction", _function_arn(str(data.get("FunctionName", "")), account, region)
            )
        ]
    if ":lambda:" in resource and ":function:" in resource:
        return [TaskPermission("lambda:InvokeFunction", resource)]
    if resource.startswith(f"{_PREFIX}sagemaker:") or ":aws-sdk:sagemaker:create" in resource:
        needs = _tagging(resource, data, account, region)
        passed = {"iam:PassedToService": "sagemaker.amazonaws.com"}
        roles = [data[name] for name in ("RoleArn", "ExecutionRoleArn") if name in data]
        return needs + [TaskPermission("iam:PassRole", str(role), passed) for role in roles]
    return []


def _tagging(resource: str, data: Any, account: str, region: str) -> list[TaskPermission]:
    """A job with tags needs a permission of its own for them."""
    for name, kind in (("TrainingJobName", "training-job"), ("ProcessingJobName", "processing-job")):
        if f":create{name.removesuffix('Name')}" in resource and data.get("Tags"):
            arn = f"arn:aws:sagemaker:{region}:{account}:{kind}/{str(data.get(name)).lower()}"
            return [TaskPermission("sagemaker:AddTags", arn)]
    return []


def of_definition(definition: Mapping[str, Any], account: str, region: str) -> list[TaskPermission]:
    """What must be allowed when a state machine is created: rules for tasks that wait for a job's end."""
    names = {
        rule
        for resource in _resources(definition)
        for kind, rule in _MANAGED_RULES.items()
        if resource.startswith(_PREFIX + kind)
    }
    arns = [f"arn:aws:events:{region}:{account}:rule/{name}" for name in sorted(names)]
    return [TaskPermission(action, arn) for arn in arns for action in _RULE_ACTIONS]


def refusal(role_arn: str, need: TaskPermission) -> str:
    """The words of a refusal."""
    account, name = role_arn.split(":")[4], role_arn.rpartition("/")[2]
    return (
        f"User: arn:aws:sts::{account}:assumed-role/{name}/StepFunctions is not authorized to perform: "
        f"{need.action} on resource: {need.resource} because no identity-based policy allows the "
        f"{need.action} action"
    )


def parsed(definition: str) -> dict[str, Any]:
    """A definition's JSON; empty for what is none, which the engine complains about itself."""
    try:
        found = json.loads(definition)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _resources(value: Any) -> Iterator[str]:
    """Every task's resource, in branches and iterators too."""
    if isinstance(value, dict):
        if value.get("Type") == "Task":
            yield str(value.get("Resource", ""))
        for item in value.values():
            yield from _resources(item)
    elif isinstance(value, list):
        for item in value:
            yield from _resources(item)


def _function_arn(reference: str, account: str, region: str) -> str:
    if reference.startswith("arn:"):
        return reference
    return f"arn:aws:lambda:{region}:{account}:function:{reference}"
