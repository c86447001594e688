"""Makes an account ready for Evergreen: CDK's bootstrap stack in every region of an environment, the
execution roles of the stacks that the release loop updates, and API Gateway's log role where there is none.

    python -m operations bootstrap --env prod

Done again it updates what is there. `STEPS` is the list of what is made; each is a function of the target.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from operations.account_log_role import set_account_log_role
from operations.aws_errors import code_of
from operations.cdk import run_cdk
from operations.execution_role import bounded_stacks, make_execution_role
from operations.laptop import home
from operations.progress import CommandError, Step, Steps
from operations.stacks import describe_stack
from operations.target import Target, open_target, run

STACK = "CDKToolkit"
QUALIFIER = "hnb659fds"
VERSION_PARAMETER = f"/cdk-bootstrap/{QUALIFIER}/version"
CURRENT_VERSION = 33
"""What the pinned CDK command line makes."""
NEEDED_VERSION = 6
"""What the templates ask for at least."""
_FAILED = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS")


def bootstrap_version(target: Target, region: str) -> int | None:
    """The version of a region's bootstrap stack; None where there is none."""
    try:
        found = target.client("ssm", region).get_parameter(Name=VERSION_PARAMETER)
    except ClientError as error:
        if code_of(error) == "ParameterNotFound":
            return None
        raise
    return int(found["Parameter"]["Value"])


def assets_bucket(target: Target) -> str:
    """The bootstrap bucket of the first region. Raises CommandError before bootstrap."""
    found = describe_stack(target.client("cloudformation"), STACK)
    outputs = {output["OutputKey"]: output["OutputValue"] for output in (found or {}).get("Outputs", [])}
    if "BucketName" not in outputs:
        raise CommandError(
            f"Account {target.account} is not bootstrapped in {target.region}: run "
            f"`make bootstrap ENV={target.name}` first."
        )
    return str(outputs["BucketName"])


def bootstrap(target: Target, steps: Steps, *, renew: bool = True) -> None:
    """Every step of `STEPS`. Without `renew`, a region whose version suffices is left as it is."""
    for name, work in STEPS.items():
        for region in target.regions:
            with steps.step(f"{name} {region}") as step:
                work(target, region, step, renew)


def _cdk_toolkit(target: Target, region: str, step: Step, renew: bool) -> None:
    cloudformation = target.client("cloudformation", region)
    found = describe_stack(cloudformation, STACK)
    if found and found["StackStatus"] in _FAILED:
        step.say(f"{STACK} is {found['StackStatus']} after an earlier attempt: it is deleted and made again")
        _delete(cloudformation)
    version = bootstrap_version(target, region)
    if version is not None and version >= (CURRENT_VERSION if renew else NEEDED_VERSION):
        step.note = f"version {version}, already there"
        return
    # In a folder without cdk.json: with an app, the command would synthesize it first.
    with tempfile.TemporaryDirectory() as folder:
        words: list[str | Path] = ["bootstrap", f"aws://{target.account}/{region}"]
        run_cdk(target, step, words, cwd=Path(folder))
    version = bootstrap_version(target, region)
    step.note = f"version {version}"


def _delete(cloudformation: Any) -> None:
    cloudformation.delete_stack(StackName=STACK)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=STACK)


def _execution_role(target: Target, region: str, step: Step, renew: bool) -> None:
    """Whatever `renew` says: a deploy hands over the role as the templates of today need it."""
    for there, stack in bounded_stacks(target.settings):
        if there == region:
            cloudformation = target.client("cloudformation", region)
            make_execution_role(cloudformation, stack, target.settings.endpoint_name, step)


def _account_log_role(target: Target, region: str, step: Step, renew: bool) -> None:
    set_account_log_role(target.client("apigateway", region), target.client("iam"), step)


STEPS: dict[str, Callable[[Target, str, Step, bool], None]] = {
    "cdk bootstrap": _cdk_toolkit,
    "execution role": _execution_role,
    "account's log role": _account_log_role,
}
"""What `bootstrap` makes in each region, in this order: name of the step, and its work."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m operations bootstrap", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True, help="name of the settings file")
    parser.add_argument("--logs", type=Path, default=home() / "logs")
    options = parser.parse_args(arguments)

    def work() -> int:
        target = open_target(options.env)
        print(f"Bootstrap account {target.account}, {' and '.join(target.regions)}, as {target.caller}")
        bootstrap(target, Steps(options.logs))
        print(f"\nNext: make preflight ENV={target.name}")
        return 0

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
