"""The serving stack: its parameters, and updates that change nothing else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from contracts import guardrails
from contracts.release_tasks import ServedModel
from lambdas.release.aws.clients import code_of, message_of
from lambdas.release.errors import StackBusyError, TopologyFailedError

_CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"]
_NOTHING_TO_DO = "No updates are to be performed"
_BUSY = re.compile(r"is in \S+_IN_PROGRESS state")
_CANCELLED = "cancelled"
_LONGEST_PURPOSE = 100


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

    def update(self, changes: Mapping[str, str], purpose: str) -> None:
        """Start an update of these parameters; `purpose` is what its events will be marked with.

        Under way or done already counts as started. Raises StackBusyError, or TopologyFailedError where
        CloudFormation refuses.
        """
        before = self.describe()
        try:
            self._cloudformation.update_stack(
                StackName=self._name,
                UsePreviousTemplate=True,
                Parameters=[
                    {"ParameterKey": name, "ParameterValue": changes[name]}
                    if name in changes
                    else {"ParameterKey": name, "UsePreviousValue": True}
                    for name in before.parameters
                ],
                Capabilities=_CAPABILITIES,
                ClientRequestToken=_token(purpose, before.updated_at),
            )
        except ClientError as error:
            self._explain(error, changes)

    def _explain(self, error: ClientError, changes: Mapping[str, str]) -> None:
        message = message_of(error)
        if _NOTHING_TO_DO in message or code_of(error) == "TokenAlreadyExistsException":
            return
        if code_of(error) != "ValidationError":
            raise error
        now = self.describe()
        if now.is_changing or _BUSY.search(message):
            ours = not now.rolled_back and all(now.parameters.get(name) == changes[name] for name in changes)
            if ours:
                return
            raise StackBusyError(f"{self._name} is being updated by something else ({now.status}).") from None
        raise TopologyFailedError(f"CloudFormation refused the update of {self._name}: {message}") from None

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


def _token(purpose: str, updated_at: str) -> str:
    """The same for a request that is sent twice, another one once the stack has been updated in between.

    CloudFormation answers a token it has seen without doing anything, so a later update for the same purpose
    needs its own.
    """
    readable = re.sub(r"[^A-Za-z0-9-]", "-", purpose)[:_LONGEST_PURPOSE]
    return f"{readable}-{hashlib.sha256(f'{purpose} {updated_at}'.encode()).hexdigest()[:12]}"
