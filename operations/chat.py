"""Streams one answer from a deployed environment.

    python -m operations chat --env prod --key evg-… "Hello!"

The key may also stand in EVERGREEN_API_KEY. The address is the gateway stack's.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from operations.chat_client import stream
from operations.progress import CommandError
from operations.stacks import stack_output
from operations.target import Target, open_target, run

KEY_VARIABLE = "EVERGREEN_API_KEY"


def api_url(target: Target) -> str:
    """Where the deployed API answers; includes the stage and ends in `/v1`. Raises StackError."""
    cloudformation = target.client("cloudformation")

    def output(name: str) -> str:
        return stack_output(cloudformation, target.name, "gateway", name)

    if target.is_laptop:  # the emulator answers for every host name below one of its own paths
        base = f"{target.environment['AWS_ENDPOINT_URL']}/_aws/execute-api"
        return f"{base}/{output('RestApiId')}/{output('StageName')}/v1"
    return output("ApiUrl")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m operations chat", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True, help="name of the settings file")
    parser.add_argument("--key", default=os.environ.get(KEY_VARIABLE), help=f"default: ${KEY_VARIABLE}")
    parser.add_argument("prompt", nargs="?", default="Hello!")
    options = parser.parse_args(arguments)

    def work() -> int:
        target = open_target(options.env)
        if not options.key:
            raise CommandError(
                f"There is no key: make one with `make key ENV={target.name} ARGS=create`, and "
                f"add KEY=<it> or set {KEY_VARIABLE}."
            )
        for piece in stream(api_url(target), options.key, options.prompt):
            sys.stdout.write(piece)
            sys.stdout.flush()
        print()
        return 0

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
