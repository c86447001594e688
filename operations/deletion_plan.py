"""What deleting an environment deletes and keeps, in which order: read from the deployed templates.

The templates say what CloudFormation will do (`DeletionPolicy`), whatever the settings say by now. A stack
goes before those whose exports it imports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from operations.inventory import DeployedStack, stack_resources

# Last the execution roles, under which CloudFormation deletes the stacks that they were made for.
_LAST = ("monitoring", "serving", "data", "failover-data", "serving-bootstrap", "failover-bootstrap")
_KEPT = ("Retain", "Snapshot", "RetainExceptOnCreate")


@dataclass(frozen=True)
class PlannedResource:
    """A resource of a stack, and whether CloudFormation keeps it."""

    stack: str
    region: str
    logical_id: str
    type: str
    physical_id: str
    kept: bool


@dataclass(frozen=True)
class PlannedStack:
    """A stack, its resources, and the exports that it needs and gives."""

    stack: DeployedStack
    resources: tuple[PlannedResource, ...]
    imports: frozenset[str]
    exports: frozenset[str]

    def disposable(self, resource_type: str) -> list[str]:
        """Physical ids of the resources of a type that go with the stack."""
        return [
            resource.physical_id
            for resource in self.resources
            if resource.type == resource_type and not resource.kept
        ]


def plan_stack(cloudformation: Any, stack: DeployedStack) -> PlannedStack:
    """The plan of one stack."""
    body = cloudformation.get_template(StackName=stack.name)["TemplateBody"]
    template: Mapping[str, Any] = json.loads(body) if isinstance(body, str) else body
    policies = {
        name: resource.get("DeletionPolicy", "Delete")
        for name, resource in template.get("Resources", {}).items()
    }
    resources = tuple(
        PlannedResource(
            stack.name,
            stack.region,
            entry["LogicalResourceId"],
            entry["ResourceType"],
            entry.get("PhysicalResourceId", ""),
            policies.get(entry["LogicalResourceId"]) in _KEPT,
        )
        for entry in stack_resources(cloudformation, stack.name)
    )
    exports = {output.get("ExportName", "") for output in stack.description.get("Outputs", [])}
    return PlannedStack(stack, resources, frozenset(_imports(template)), frozenset(exports - {""}))


def deletion_order(stacks: Sequence[PlannedStack]) -> list[PlannedStack]:
    """The stacks, each before those that it imports from; the data last."""
    remaining = sorted(stacks, key=_rank)
    ordered = []
    while remaining:
        free = [
            one
            for one in remaining
            if not any(one.exports & other.imports for other in remaining if other is not one)
        ]
        chosen = (free or remaining)[0]  # imports in a circle cannot be deployed
        remaining.remove(chosen)
        ordered.append(chosen)
    return ordered


def _rank(planned: PlannedStack) -> tuple[int, str]:
    part = planned.stack.part
    if part.startswith("serving-") and part not in _LAST:  # of a further model
        return (_LAST.index("serving") + 1, part)
    return (_LAST.index(part) + 1 if part in _LAST else 0, part)


def _imports(node: Any) -> Iterator[str]:
    """Names of exports in `Fn::ImportValue`, wherever it stands."""
    if isinstance(node, Mapping):
        name = node.get("Fn::ImportValue")
        if isinstance(name, str):
            yield name
        for value in node.values():
            yield from _imports(value)
    elif isinstance(node, list):
        for value in node:
            yield from _imports(value)
