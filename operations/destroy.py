"""Deletes an environment: empties what is disposable, deletes the stacks, names what is kept and its cost.

    python -m operations destroy --env dev            # shows the plan, and asks for the environment's name
    python -m operations destroy --env dev --yes      # in automation

What is kept is what the deployed templates retain (`environment.removal` in the settings at the time of the
deploy). A stack with termination protection stops the command before anything is deleted. Run again after an
interruption, it goes on with what is left.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from botocore.exceptions import ClientError

from operations import prices
from operations.artefacts import forget_last_uploaded
from operations.deletion_plan import PlannedStack, deletion_order, plan_stack
from operations.inventory import environment_stacks
from operations.kept_resources import KeptResource, kept_resources
from operations.laptop import home
from operations.lock import locked
from operations.progress import CommandError, Steps
from operations.stack_deletion import StackDeletion
from operations.target import Target, open_target, run

_SHARED = (
    "The account keeps what environments share: the stack CDKToolkit with its bucket, and the log groups of "
    "training and processing jobs (/aws/sagemaker/…Jobs)."
)


def plan(target: Target) -> list[PlannedStack]:
    """The stacks in the order of their deletion. Raises CommandError where one is protected."""
    stacks = environment_stacks(target)
    protected = [stack.name for stack in stacks if stack.description.get("EnableTerminationProtection")]
    if protected:
        raise CommandError(
            f"Termination protection is on for {', '.join(protected)}: turn it off (aws cloudformation "
            "update-termination-protection --no-enable-termination-protection --stack-name …) and run the "
            "command again. Nothing was deleted."
        )
    planned = [plan_stack(target.client("cloudformation", stack.region), stack) for stack in stacks]
    return deletion_order(planned)


def describe(target: Target, planned: Sequence[PlannedStack], kept: Sequence[KeptResource]) -> str:
    """The plan for a person."""
    lines = [f"Deletes {target.name} in account {target.account}, {', '.join(target.regions)}:"]
    for one in planned:
        goes = sum(not resource.kept for resource in one.resources)
        buckets = len(one.disposable("AWS::S3::Bucket"))
        emptied = f", {buckets} buckets with all they hold" if buckets else ""
        lines.append(f"  {one.stack.name:<36} {goes} resources{emptied}")
    return "\n".join([*lines, "", *_kept_lines(kept), _SHARED])


def _kept_lines(kept: Sequence[KeptResource]) -> list[str]:
    if not kept:
        return ["Nothing is kept."]
    known = sum(one.usd_per_month or 0 for one in kept)
    unread = any(one.usd_per_month is None for one in kept)
    lines = [
        f"Kept, for about {known:,.2f} USD a month{' and what could not be read' if unread else ''} "
        f"(prices of {prices.KEPT_CHECKED}, us-east-1):"
    ]
    for one in kept:
        price = "?" if one.usd_per_month is None else f"{one.usd_per_month:,.2f}"
        lines.append(f"  {price:>8} USD  {one.what:<26} {one.resource.physical_id}")
    return lines


def confirm(env: str, ask: Callable[[str], str] = input) -> None:
    """Asks for the environment's name. Raises CommandError where another word, or nobody, answers."""
    try:
        answer = ask(f"\nType {env} to delete it: ")
    except EOFError:
        raise CommandError("nobody confirmed: add --yes (ARGS=--yes) where no person answers.") from None
    if answer.strip() != env:
        raise CommandError("the name does not match: nothing was deleted.")


def stop_releases(target: Target, planned: Sequence[PlannedStack]) -> int:
    """Stops executions that would change the stacks meanwhile; how many."""
    stopped = 0
    for one in planned:
        stepfunctions = target.client("stepfunctions", one.stack.region)
        for machine in one.disposable("AWS::StepFunctions::StateMachine"):
            try:
                running = stepfunctions.list_executions(stateMachineArn=machine, statusFilter="RUNNING")
            except ClientError as error:
                if error.response["Error"]["Code"] == "StateMachineDoesNotExist":
                    continue
                raise
            for execution in running["executions"]:
                stepfunctions.stop_execution(
                    executionArn=execution["executionArn"], cause=f"{target.name} is being deleted"
                )
                stopped += 1
    return stopped


def destroy(target: Target, planned: Sequence[PlannedStack], steps: Steps) -> dict[str, str]:
    """Deletes the stacks; reasons by what could not be deleted."""
    with steps.step("stop releases") as step:
        step.note = f"{stop_releases(target, planned)} stopped"
    left: dict[str, str] = {}
    for one in planned:
        with steps.step(f"delete {one.stack.part}") as step:
            done = StackDeletion(target, step.say).delete(one)
            step.note = f"{done.emptied} objects and packages deleted first" if done.emptied else ""
            left |= done.left
    return left


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 where something could not be deleted."""
    parser = argparse.ArgumentParser(
        prog="python -m operations destroy", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True, help="name of the settings file")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--logs", type=Path, default=home() / "logs")
    options = parser.parse_args(arguments)

    def work() -> int:
        target = open_target(options.env)
        planned = plan(target)
        if not planned:
            print(f"Nothing of {target.name} is deployed in account {target.account}.")
            return 0
        kept = kept_resources(target, [resource for one in planned for resource in one.resources])
        print(describe(target, planned, kept), flush=True)
        if not options.yes:
            confirm(target.name)
        with locked(target, "destroy"):
            left = destroy(target, planned, Steps(options.logs))
            forget_last_uploaded(target)
        if not left:
            print(f"\n{target.name} is deleted.", *_kept_lines(kept), sep="\n")
            return 0
        print("\nThe stacks are deleted. These could not be, and may cost money:", file=sys.stderr)
        for name, reason in left.items():
            print(f"  {name}: {reason}", file=sys.stderr)
        return 1

    return run(work)
