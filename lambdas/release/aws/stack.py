"""A stack as its parameters, outputs and events show it. Nothing here may change one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contracts import guardrails
from contracts.release_tasks import ServedModel

_CANCELLED = "cancelled"


@dataclass(frozen=True)
class StackState:
    """A stack as CloudFormation describes it; during an update the parameters are the new ones."""

    status: str
    reason: str
    parameters: Mapping[str, str]
    updated_at: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_changing(self) -> bool:
        """Whether an update or its clean-up is under way."""
        return self.status.endswith("_IN_PROGRESS")

    @property
    def rolled_back(self) -> bool:
        """Whether the last update did not succeed."""
        return "ROLLBACK" in self.status

    @property
    def is_at_rest(self) -> bool:
        """Whether the stack can be updated."""
        return self.status.endswith("_COMPLETE")

    @property
    def champion(self) -> ServedModel:
        """The model that the parameters name as champion."""
        return ServedModel(
            uri=self.parameters["ChampionModelUri"],
            digest=self.parameters["ChampionModelDigest"],
            version=self.parameters["ChampionModelVersion"],
        )

    @property
    def phase(self) -> str:
        """`steady`, `shadow` or `ab`."""
        return self.parameters["Phase"]

    def plain(self, champion_version: str) -> dict[str, str]:
        """The parameters of a rollout without guardrails, good for this template and this champion alone.

        A later deployment brings another template, or another champion, and is guarded again.
        """
        shape = self.outputs.get("EndpointShape")
        if not shape or guardrails.VERSION_PARAMETER not in self.parameters:  # an older template
            return {"Rollout": "plain"}
        return {guardrails.PARAMETER: guardrails.skip(shape), guardrails.VERSION_PARAMETER: champion_version}


class CloudFormationStack:
    """One stack by its name."""

    def __init__(self, name: str, cloudformation: Any) -> None:
        self._name = name
        self._cloudformation = cloudformation

    def describe(self) -> StackState:
        """The stack now."""
        found = self._cloudformation.describe_stacks(StackName=self._name)["Stacks"][0]
        return StackState(
            status=found["StackStatus"],
            reason=found.get("StackStatusReason", ""),
            parameters={
                entry["ParameterKey"]: entry.get("ParameterValue", "")
                for entry in found.get("Parameters", [])
            },
            updated_at=str(found.get("LastUpdatedTime", "")),
            outputs={entry["OutputKey"]: entry["OutputValue"] for entry in found.get("Outputs", [])},
        )

    def failure(self) -> str:
        """The first cause in the latest update's events, in CloudFormation's words; empty where none is."""
        events = self._cloudformation.describe_stack_events(StackName=self._name)["StackEvents"]
        cause = ""
        for event in events:  # newest first
            if event["ResourceStatus"] == "UPDATE_IN_PROGRESS" and event["LogicalResourceId"] == self._name:
                break
            reason = event.get("ResourceStatusReason", "")
            if event["ResourceStatus"].endswith("_FAILED") and _CANCELLED not in reason.lower():
                cause = f"{event['LogicalResourceId']}: {reason}"
        return cause
