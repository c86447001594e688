"""Updates of a stack's parameters through the state machine that alone may make them.

The definition of that state machine fixes the template and the names of the parameters
(infra/state_machines/update_stack.asl.yaml); the caller chooses their values.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from lambdas.release.aws.clients import code_of
from lambdas.release.errors import TopologyFailedError

_READABLE_CHARACTERS = 60  # of the 80 that an execution's name may have


class StackUpdateMachine:
    """The state machine that updates one stack, in the stack's own region."""

    def __init__(self, arn: str, stepfunctions: Any) -> None:
        self._arn = arn
        self._stepfunctions = stepfunctions

    def start(self, parameters: Mapping[str, str], purpose: str) -> str:
        """Start an update of these parameters; the ARN of the execution that makes it.

        The same request twice is one execution, also once it has ended.
        """
        given = json.dumps({"parameters": dict(parameters)}, sort_keys=True)
        name = _name(purpose, given)
        try:
            started = self._stepfunctions.start_execution(stateMachineArn=self._arn, name=name, input=given)
        except ClientError as error:
            if code_of(error) != "ExecutionAlreadyExists":
                raise
            return f"{self._arn.replace(':stateMachine:', ':execution:')}:{name}"
        return str(started["executionArn"])

    def done(self, execution_arn: str) -> bool:
        """Whether the update has been made. Raises TopologyFailedError with the cause where it failed."""
        found = self._stepfunctions.describe_execution(executionArn=execution_arn)
        if found["status"] == "RUNNING":
            return False
        if found["status"] != "SUCCEEDED":
            raise TopologyFailedError(found.get("cause") or f"The update {found['status'].lower()}.")
        return True


def _name(purpose: str, given: str) -> str:
    """A name for an execution which CloudFormation takes as its request token too."""
    readable = re.sub(r"[^A-Za-z0-9-]", "-", purpose)[:_READABLE_CHARACTERS]
    return f"{readable}-{hashlib.sha256(f'{purpose} {given}'.encode()).hexdigest()[:12]}"
