"""`python3 -m local <command>`: drives the laptop cloud. Standard library only, so it runs anywhere.

Commands that talk to AWS services hand over to the `cloud` environment, which has boto3.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from local import chat, emulator, environments
from local.home import REPOSITORY, Home
from operations.progress import CommandError, Steps, fail


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """One command at a time changes a laptop cloud; a second one is told so at once."""
    home.root.mkdir(parents=True, exist_ok=True)
    with (home.root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            raise CommandError(
                f"another `make up`, `down` or `clean` is at work in {home.root}: wait for it to end."
            ) from busy
        yield


def _hand_over(home: Home, module: str, arguments: list[str]) -> int:
    """Runs a module in the `cloud` environment as this process's child and returns its exit code."""
    python = home.python("cloud")
    if not python.exists():
        raise CommandError("nothing is installed yet: run `make up` first.")
    return os.spawnve(  # noqa: S606 - our own interpreter and module
        os.P_WAIT,
        python,
        [str(python), "-m", module, *arguments],
        home.aws_environment() | {"PYTHONPATH": str(REPOSITORY)},
    )


def main(words: list[str] | None = None) -> int:
    """Parses the command line and runs one command; returns the exit code."""
    began = time.monotonic()  # one clock for all processes of a machine
    parser = argparse.ArgumentParser(prog="python3 -m local", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="environments, model, cloud, deploy, first answer")
    up.add_argument("--tiny", action="store_true", help="serve the tiny random model (for tests)")
    commands.add_parser("cloud", help="start the laptop cloud as it is, empty at first: an account to try in")
    commands.add_parser("down", help="stop the laptop cloud, keep its data")
    commands.add_parser("clean", help="stop the laptop cloud and forget its data")
    environment = commands.add_parser("environments", help="make the environments only")
    environment.add_argument("--development", action="store_true", help="with what tests and checks need")
    environment.add_argument("--peers", action="store_true", help="with vLLM and llama.cpp, over a gigabyte")
    environment.add_argument(
        "--validators", action="store_true", help="with what tests and `make validate` need"
    )
    environment.add_argument(
        "--clients", action="store_true", help="the clients that `make clients` drives, and nothing else"
    )
    lock = commands.add_parser("lock", help="write the locks of every environment and bundle")
    lock.add_argument("--upgrade", action="store_true", help="to the newest versions that the pins allow")
    talk = commands.add_parser("chat", help="stream one answer")
    talk.add_argument("prompt")
    for name, text in (("refresh", "run the refresh loop"), ("evaluate", "judge the champion")):
        commands.add_parser(name, help=text, add_help=False)
    given, rest = parser.parse_known_args(words)
    if rest and given.command not in ("refresh", "evaluate"):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    home = Home.from_environment(tiny=getattr(given, "tiny", False))
    try:
        if given.command == "chat":
            return chat.main(home, given.prompt)
        if given.command in ("refresh", "evaluate"):
            return _hand_over(home, f"local.{given.command}", rest)
        with _alone(home):
            if given.command == "environments":
                steps = Steps(home.logs)
                if given.clients:
                    environments.prepare_clients(home, steps)
                elif given.validators:
                    environments.prepare_validators(home, steps)
                else:
                    environments.prepare(home, steps, development=given.development, peers=given.peers)
                return 0
            if given.command == "lock":
                environments.lock(home, Steps(home.logs), upgrade=given.upgrade)
                return 0
            if given.command == "cloud":
                emulator.running(home)
                environments.prepare(home, Steps(home.logs))
            if given.command == "up":
                emulator.running(home)  # before minutes of work for a port that another program has
                print(f"Evergreen on this machine, in {home.root}", flush=True)
                steps = Steps(home.logs)
                environments.prepare_deploying(home, steps)  # bringup makes the rest while it synthesizes
                steps.save(home.timings)
            since = ["--since", f"{began:.3f}"]
            return _hand_over(
                home, "local.bringup", [given.command, *since, *(["--tiny"] if home.tiny else [])]
            )
    except CommandError as problem:
        return fail(problem)
    except KeyboardInterrupt:
        return fail(CommandError("interrupted; run the same command again to go on."))


if __name__ == "__main__":
    sys.exit(main())
