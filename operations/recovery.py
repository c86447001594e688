"""Stacks that an earlier deploy left half way: waited for, deleted or rolled back, each said plainly.

CloudFormation takes no update for a stack whose creation failed, and none while another operation runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from operations.cdk import StackPlace
from operations.progress import CommandError, Step
from operations.stacks import describe_stack
from operations.target import Target

NEVER_CREATED = (
    "CREATE_FAILED",
    "ROLLBACK_COMPLETE",
    "ROLLBACK_FAILED",
    "REVIEW_IN_PROGRESS",
    "DELETE_FAILED",
)
"""Nothing of such a stack serves: its creation never ended well, or its deletion has begun."""
_ROLLBACK_STOPPED = "UPDATE_ROLLBACK_FAILED"
_POLL_SECONDS = 5.0
_SAY_SECONDS = 30.0
_WAIT_SECONDS = 4 * 3600.0


def recover(target: Target, places: Sequence[StackPlace], step: Step) -> None:
    """Leaves each stack in a state that takes a deploy. Raises CommandError where it cannot."""
    # Those that others build on go last: stacks are deleted from the top.
    for place in sorted(places, key=lambda place: place.name.endswith("-data")):
        cloudformation = target.client("cloudformation", place.region)
        status = _settled(cloudformation, place.name, step)
        if status in NEVER_CREATED:
            step.say(f"{place.name} is {status}: never completed, so it is deleted and made again")
            cloudformation.delete_stack(StackName=place.name)
            _await_deletion(cloudformation, place.name, step)
        elif status == _ROLLBACK_STOPPED:
            step.say(f"{place.name} is {status}: its rollback is continued")
            cloudformation.continue_update_rollback(StackName=place.name)
            status = _settled(cloudformation, place.name, step)
            if status == _ROLLBACK_STOPPED:
                raise CommandError(
                    f"The rollback of {place.name} stops again ({_reason(cloudformation, place.name)}): "
                    "correct that resource, or go on without it in the CloudFormation console."
                )


def _settled(cloudformation: Any, name: str, step: Step) -> str | None:
    """The stack's status once no operation runs; None where it does not exist."""
    deadline, said = time.monotonic() + _WAIT_SECONDS, float("-inf")
    while time.monotonic() < deadline:
        found = describe_stack(cloudformation, name)
        status = None if found is None else str(found["StackStatus"])
        if status is None or status == "REVIEW_IN_PROGRESS" or not status.endswith("_IN_PROGRESS"):
            return status
        if time.monotonic() - said > _SAY_SECONDS:
            said = time.monotonic()
            step.say(f"{name} is {status}: an earlier operation still runs, waiting for it")
        time.sleep(_POLL_SECONDS)
    raise CommandError(
        f"{name} is still being changed after {_WAIT_SECONDS / 3600:.0f} h: look into its events."
    )


def _await_deletion(cloudformation: Any, name: str, step: Step) -> None:
    if _settled(cloudformation, name, step) is not None:
        raise CommandError(
            f"{name} could not be deleted ({_reason(cloudformation, name)}): remove what it names and run "
            "this again."
        )


def _reason(cloudformation: Any, name: str) -> str:
    """The first failure among a stack's latest events."""
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    failed = [event for event in events if event["ResourceStatus"].endswith("FAILED")]
    if not failed:
        return "no reason in its events"
    cause = failed[-1]
    return f"{cause['LogicalResourceId']}: {cause.get('ResourceStatusReason', cause['ResourceStatus'])}"
