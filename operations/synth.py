"""Makes the cloud assembly of one environment, where its sources have changed; needs no credentials.

python -m operations synth --env prod
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from operations.cdk import synthesize
from operations.laptop import home
from operations.progress import Step
from operations.target import run


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m operations synth", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True, help="name of the settings file")
    options = parser.parse_args(arguments)

    def work() -> int:
        logs = home() / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        step = Step("synth", logs / "synth.log")
        synthesize(options.env, step)
        print(step.note or "made anew")
        return 0

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
