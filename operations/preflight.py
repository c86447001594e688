"""Looks at everything that a deploy would stumble over, before it does. Reads only.

    python -m operations preflight --env prod

Each line says what was found (✓), what stands in the way (✗) or what cannot be told yet (–), with the next
step. Ends with 1 where something stands in the way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from botocore.exceptions import BotoCoreError, ClientError

from infra.settings import load
from operations.aws_errors import DENIED, code_of, explain
from operations.checks.account import (
    check_bootstrap,
    check_execution_roles,
    check_images,
    check_subscriptions,
)
from operations.checks.machines import check_concurrency, check_machines
from operations.checks.model import SUBJECT, check_artefact
from operations.checks.placeholders import check_placeholders
from operations.checks.results import Mark, Result, failed, passed, unsettled
from operations.progress import CommandError
from operations.target import Target, check_identity, connect, run

Check = Callable[[Target], Iterable[Result]]
CHECKS: dict[str, Check] = {
    "bootstrap": check_bootstrap,
    "execution roles": check_execution_roles,
    "machines": check_machines,
    "Lambda concurrency": check_concurrency,
    "images": check_images,
    "model": check_artefact,
    "e-mail": check_subscriptions,
}
"""What is asked of AWS, by name, in the order of the report."""


def results(target: Target) -> Iterator[Result]:
    """All checks of an environment; those of AWS only where the credentials are of the settings' account."""
    yield from check_placeholders(target)
    try:
        caller = check_identity(target)
    except CommandError as error:
        yield failed("identity", str(error), "the rest was not looked at")
        return
    except (BotoCoreError, ClientError) as error:
        yield failed("identity", explain(error), "the rest was not looked at")
        return
    yield passed("identity", f"{caller}, account {target.account}")
    for name, check in CHECKS.items():
        yield from _guarded(name, check, replace(target, caller=caller))


def _guarded(name: str, check: Check, target: Target) -> Iterator[Result]:
    """A check that may not look says so; what it cannot reach stands in the way."""
    try:
        yield from check(target)
    except ClientError as error:
        if code_of(error) in DENIED:
            yield unsettled(name, explain(error), "or look by hand")
        else:
            yield failed(name, explain(error), "see whether the service answers, and try again")
    except BotoCoreError as error:
        yield failed(name, explain(error), "see whether the network is there, and try again")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m operations preflight", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True, help="name of the settings file")
    options = parser.parse_args(arguments)
    return run(lambda: _report(options.env))


def _report(env: str) -> int:
    target = connect(load(env))
    print(f"Preflight of {target.name}: account {target.account}, {' and '.join(target.regions)}")
    found: list[Result] = []
    for result in results(target):
        found.append(result)
        print(f"  {result.mark.value} {result.subject:<30} {result.found}", flush=True)
        if result.next_step:
            print(f"      → {result.next_step}")
    in_the_way = sum(result.mark is Mark.FAILED for result in found)
    if in_the_way:
        raise CommandError(
            f"{in_the_way} of {len(found)} checks failed: follow the arrows and run this again."
        )
    models = [result for result in found if result.subject.startswith(SUBJECT)]
    missing = [result.next_step for result in models if result.next_step]
    print(f"\nNext: {missing[0] if missing else f'make deploy ENV={target.name}'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
