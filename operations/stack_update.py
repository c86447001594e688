"""Updates of the serving stack's parameters, with the template as it is: what a release and an operator do.

Where the refresh loop is deployed its state machine makes the update (`evergreen-<env>-serving-update`), so
that both are one way; elsewhere the operator's credentials do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from operations.aws_errors import code_of, message_of
from operations.diagnosis.stack_events import latest_attempt
from operations.progress import CommandError
from operations.target import Target

WAIT_SECONDS = 8 * 3600
"""The state machine waits four hours for the stack to rest and four for its update."""
POLL_SECONDS = 5.0
_CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"]


class ServingStackUpdate:
    """One update of the serving stack. `tell` gets a line when the wait is long."""

    def __init__(
        self,
        target: Target,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._target, self._tell = target, tell
        self._clock, self._sleep = clock, sleep
        self._stack = target.stack("serving")
        self._cloudformation = target.client("cloudformation")

    def run(self, parameters: Mapping[str, str], name: str) -> None:
        """Makes the update and waits for it; `name` is its name in the events.

        Raises CommandError with the first cause where it failed or was rolled back.
        """
        machine = self._machine()
        if machine:
            self._run_machine(machine, parameters, name)
        else:
            self._update(parameters, name)
        found = self._describe()
        if found["StackStatus"] not in ("UPDATE_COMPLETE", "CREATE_COMPLETE"):
            raise CommandError(self._failure(found))

    def _machine(self) -> str | None:
        """ARN of the state machine that updates the stack; None where there is none."""
        stepfunctions = self._target.client("stepfunctions")
        arn = (
            f"arn:{_partition(self._target.region)}:states:{self._target.region}:{self._target.account}:"
            f"stateMachine:{self._stack}-update"
        )
        try:
            stepfunctions.describe_state_machine(stateMachineArn=arn)
        except ClientError as error:
            if code_of(error) == "StateMachineDoesNotExist":
                return None
            raise
        return arn

    def _run_machine(self, machine: str, parameters: Mapping[str, str], name: str) -> None:
        stepfunctions = self._target.client("stepfunctions")
        given = json.dumps({"parameters": dict(parameters)}, sort_keys=True)
        arn = stepfunctions.start_execution(stateMachineArn=machine, name=name, input=given)["executionArn"]

        def done() -> bool:
            found = stepfunctions.describe_execution(executionArn=arn)
            if found["status"] == "RUNNING":
                return False
            if found["status"] != "SUCCEEDED":
                raise CommandError(found.get("cause") or f"the update {found['status'].lower()}.")
            return True

        self._wait(done)

    def _update(self, parameters: Mapping[str, str], name: str) -> None:
        known = [entry["ParameterKey"] for entry in self._describe().get("Parameters", [])]
        try:
            self._cloudformation.update_stack(
                StackName=self._stack,
                UsePreviousTemplate=True,
                Parameters=[
                    {"ParameterKey": key, "ParameterValue": parameters[key]}
                    if key in parameters
                    else {"ParameterKey": key, "UsePreviousValue": True}
                    for key in known
                ],
                Capabilities=_CAPABILITIES,
                ClientRequestToken=name,
            )
        except ClientError as error:
            if "No updates are to be performed" in message_of(error):
                return
            raise
        self._wait(lambda: not self._describe()["StackStatus"].endswith("_IN_PROGRESS"))

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline, told = self._clock() + WAIT_SECONDS, self._clock()
        while not done():
            if self._clock() >= deadline:
                raise CommandError(
                    f"{self._stack} is still being updated after {WAIT_SECONDS // 3600} hours."
                )
            if self._clock() - told >= 30:
                told = self._clock()
                self._tell(f"{self._stack}: {self._describe()['StackStatus']}")
            self._sleep(POLL_SECONDS)

    def _describe(self) -> dict[str, Any]:
        return dict(self._cloudformation.describe_stacks(StackName=self._stack)["Stacks"][0])

    def _failure(self, found: dict[str, Any]) -> str:
        failures = latest_attempt(self._cloudformation, found).failures
        cause = f"{failures[0].logical_id}: {failures[0].reason}" if failures else "no reason was given"
        return f"{self._stack} is {found['StackStatus']}: {cause}"


def _partition(region: str) -> str:
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
