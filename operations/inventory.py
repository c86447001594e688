"""Which stacks an environment has in its account, in all its regions, and what they hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from infra.settings.loader import FOLDER
from operations.target import Target

_PREFIX = "evergreen-"


@dataclass(frozen=True)
class DeployedStack:
    """A stack as CloudFormation describes it; `part` is its name without `evergreen-<env>-`."""

    name: str
    part: str
    region: str
    status: str
    description: Mapping[str, Any]

    @property
    def parameters(self) -> dict[str, str]:
        """Its parameters by key."""
        found = self.description.get("Parameters", [])
        return {entry["ParameterKey"]: entry.get("ParameterValue", "") for entry in found}

    @property
    def outputs(self) -> dict[str, str]:
        """Its outputs by key."""
        return {entry["OutputKey"]: entry["OutputValue"] for entry in self.description.get("Outputs", [])}

    @property
    def is_changing(self) -> bool:
        """Whether an operation on it is under way."""
        return self.status.endswith("_IN_PROGRESS")

    @property
    def failed(self) -> bool:
        """Whether its last operation did not do what was asked."""
        return "ROLLBACK" in self.status or self.status.endswith("_FAILED")


def environment_stacks(target: Target) -> list[DeployedStack]:
    """The environment's stacks that exist, by region and name."""
    environments = {file.stem for file in FOLDER.glob("*.yaml")}
    stacks = []
    for region in target.regions:
        pages = target.client("cloudformation", region).get_paginator("describe_stacks").paginate()
        for found in (stack for page in pages for stack in page["Stacks"]):
            part = part_of(found["StackName"], target.name, environments)
            if part and found["StackStatus"] != "DELETE_COMPLETE":
                stacks.append(DeployedStack(found["StackName"], part, region, found["StackStatus"], found))
    return sorted(stacks, key=lambda stack: (target.regions.index(stack.region), stack.name))


def part_of(stack_name: str, env: str, environments: Collection[str]) -> str | None:
    """`data` of `evergreen-prod-data`; None for another environment's stack, `prod-eu` for example."""
    owners = [name for name in {*environments, env} if stack_name.startswith(f"{_PREFIX}{name}-")]
    if not owners or max(owners, key=len) != env:
        return None
    return stack_name.removeprefix(f"{_PREFIX}{env}-")


def stack_resources(cloudformation: Any, stack_name: str) -> list[dict[str, Any]]:
    """A stack's resources as ListStackResources gives them, without those that are gone."""
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack_name)
    found = [entry for page in pages for entry in page["StackResourceSummaries"]]
    return [entry for entry in found if entry["ResourceStatus"] != "DELETE_COMPLETE"]


def physical_ids(resources: list[dict[str, Any]], resource_type: str) -> list[str]:
    """Names of the resources of a type; of an ARN the part behind its last slash."""
    return [
        str(entry["PhysicalResourceId"]).rsplit("/", 1)[-1]
        for entry in resources
        if entry["ResourceType"] == resource_type and entry.get("PhysicalResourceId")
    ]
