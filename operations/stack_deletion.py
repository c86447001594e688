"""Deletes one stack and waits until it is gone, also where CloudFormation gives up on a resource."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from botocore.exceptions import ClientError

from operations.aws_errors import code_of
from operations.deletion_plan import PlannedStack
from operations.diagnosis.stack_events import latest_attempt
from operations.emptying import empty_bucket, empty_package_group
from operations.inventory import stack_resources
from operations.progress import CommandError
from operations.target import Target

WAIT_SECONDS = 2 * 3600
POLL_SECONDS = 5.0
_PLAIN_TRIES = 2  # access logs arrive after a bucket was emptied
_TRIES = 5


@dataclass
class Deletion:
    """What came of one stack: how much was emptied, what CloudFormation could not delete and why."""

    emptied: int = 0
    left: dict[str, str] = field(default_factory=dict)
    """Reasons by `<logical id> (<type>) <physical id>`."""


class StackDeletion:
    """Deletes the stacks of one environment. `tell` gets a line when a wait is long."""

    def __init__(
        self,
        target: Target,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._target, self._tell = target, tell
        self._clock, self._sleep = clock, sleep

    def delete(self, planned: PlannedStack) -> Deletion:
        """Empties what is disposable and deletes the stack.

        A resource that cannot be deleted is left behind and named. Raises CommandError where even that fails.
        """
        stack = planned.stack
        cloudformation = self._target.client("cloudformation", stack.region)
        deletion = Deletion()
        retained: list[str] = []
        status = self._rest(planned)
        for number in range(_TRIES):
            if number:
                self._note_failures(planned, deletion)
            if number >= _PLAIN_TRIES:
                retained = sorted({*retained, *self._failed_ids(planned)})
            deletion.emptied += self._empty(planned)
            more = {"RetainResources": retained} if retained else {}
            cloudformation.delete_stack(StackName=stack.name, **more)
            status = self._wait(planned)
            if status == "DELETE_COMPLETE":
                self._forget_deleted(deletion, retained)
                return deletion
        reasons = "; ".join(f"{name}: {reason}" for name, reason in deletion.left.items())
        raise CommandError(
            f"{stack.name} is {status} after {_TRIES} tries: {reasons or 'no reason was given'}"
        )

    def _empty(self, planned: PlannedStack) -> int:
        region = planned.stack.region
        emptied = 0
        for bucket in planned.disposable("AWS::S3::Bucket"):
            emptied += empty_bucket(self._target.client("s3", region), bucket)
        for group in planned.disposable("AWS::SageMaker::ModelPackageGroup"):
            name = group.rsplit("/", 1)[-1]
            emptied += empty_package_group(self._target.client("sagemaker", region), name)
        return emptied

    def _rest(self, planned: PlannedStack) -> str:
        """Waits for an operation that is under way: CloudFormation deletes no stack during one."""
        return self._wait(planned) if planned.stack.is_changing else planned.stack.status

    def _wait(self, planned: PlannedStack) -> str:
        stack = planned.stack
        cloudformation = self._target.client("cloudformation", stack.region)
        deadline, told = self._clock() + WAIT_SECONDS, self._clock()
        while True:
            try:
                found = cloudformation.describe_stacks(StackName=stack.description["StackId"])["Stacks"][0]
            except ClientError as error:
                if code_of(error) == "ValidationError":
                    return "DELETE_COMPLETE"
                raise
            status = str(found["StackStatus"])
            if not status.endswith("_IN_PROGRESS"):
                return status
            if self._clock() >= deadline:
                raise CommandError(f"{stack.name} is still {status} after {WAIT_SECONDS // 3600} hours.")
            if self._clock() - told >= 30:
                told = self._clock()
                self._tell(f"{stack.name}: {status}")
            self._sleep(POLL_SECONDS)

    def _failed_ids(self, planned: PlannedStack) -> list[str]:
        cloudformation = self._target.client("cloudformation", planned.stack.region)
        return [
            entry["LogicalResourceId"]
            for entry in stack_resources(cloudformation, planned.stack.name)
            if entry["ResourceStatus"] == "DELETE_FAILED"
        ]

    def _note_failures(self, planned: PlannedStack, deletion: Deletion) -> None:
        cloudformation = self._target.client("cloudformation", planned.stack.region)
        found = cloudformation.describe_stacks(StackName=planned.stack.description["StackId"])["Stacks"][0]
        names = {
            one.logical_id: f"{one.logical_id} ({one.type}) {one.physical_id}" for one in planned.resources
        }
        for failure in latest_attempt(cloudformation, found).failures:
            deletion.left[names.get(failure.logical_id, failure.logical_id)] = failure.reason

    def _forget_deleted(self, deletion: Deletion, retained: list[str]) -> None:
        """Only what was left behind in the end remains noted."""
        deletion.left = {
            name: reason for name, reason in deletion.left.items() if name.split(" ", 1)[0] in retained
        }
