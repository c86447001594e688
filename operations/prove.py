"""Proves an environment once, from an empty account to nothing left, with a log, times and the cost.

    python -m operations prove --env sandbox --from ~/models/llama
    python -m operations prove --env sandbox --from … --keep        # without the deletion at the end

bootstrap, preflight, model, deploy, key, first answer, load; a change of the container under load; a second
version that takes over and is gone back from; an update that a forced alarm rolls back; destroy. Each step is
an operator command of its own. Takes only an environment that the settings call disposable. The report and
all output lie in a folder of their own under `.evergreen/proofs`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.settings import load as load_settings
from infra.settings.endpoint import ServerlessEndpoint
from operations.laptop import REPOSITORY, home
from operations.prices import instance_usd_per_hour
from operations.progress import CommandError
from operations.proof.report import Outcome, Proof, StepRecord, markdown
from operations.proof.steps import STEPS, NotApplicableError, ProofContext, ProofStep
from operations.target import Target, open_target, run

STEP_SECONDS = 4 * 3600


class Prover:
    """Runs the steps and writes the report after each."""

    def __init__(self, target: Target, folder: Path, context: ProofContext) -> None:
        self._target, self._folder, self._context = target, folder, context
        spec = target.settings.endpoint
        count, kind, price = 1, "serverless", None
        if not isinstance(spec, ServerlessEndpoint):
            count, kind = max(1, spec.instances.min), spec.instances.types[0]
            price = instance_usd_per_hour(target.settings, kind)
        self.proof = Proof(
            env=target.name,
            account=target.account,
            region=target.region,
            commit=_commit(),
            started_at=datetime.now(UTC),
            instances=f"{count} × {kind}",
            usd_per_fleet_hour=None if price is None else price * count,
        )

    def run(self, steps: Sequence[ProofStep]) -> bool:
        """Runs the steps in order; after a failure only those that clean up. Whether all passed."""
        for step in steps:
            if not self.proof.passed and self.proof.steps and not step.always:
                continue
            self._run(step)
            (self._folder / "report.md").write_text(markdown(self.proof), encoding="utf-8")
        return self.proof.passed

    def _run(self, step: ProofStep) -> None:
        started = time.monotonic()
        log = self._folder / f"{len(self.proof.steps) + 1:02d}-{step.name.replace(' ', '-')}.log"
        self._context.log = log
        outcome: Outcome = "passed"
        details: dict[str, Any] = {}
        try:
            note, details = step.work(self._context)
        except NotApplicableError as reason:
            outcome, note = "skipped", str(reason)
        except CommandError as problem:
            outcome, note = "failed", str(problem)
        except Exception as problem:  # noqa: BLE001 - instances must not go on costing because of a defect here
            outcome, note = "failed", f"{type(problem).__name__}: {problem}"
            with log.open("a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
        took = time.monotonic() - started
        self._context.failed = self._context.failed or outcome == "failed"
        fleets = step.fleets if self._context.deployed or step.fleets > 1 else 0
        self.proof.steps.append(StepRecord(step.name, outcome, took, note, fleets, log.name, details))
        sign = {"passed": "✓", "failed": "✗", "skipped": "–"}[outcome]
        print(f"  {sign} {step.name:<28}{took:7.1f} s   {note.splitlines()[0] if note else ''}", flush=True)


def command_runner(environment: dict[str, str], log: Callable[[], Path]) -> Callable[..., str]:
    """Runs `python -m <words>` to its end, its output in the step's log; returns its standard output."""

    def runner(*words: str, may_fail: bool = False) -> str:
        with log().open("a", encoding="utf-8") as file:
            file.write(f"$ python -m {' '.join(words)}\n")
            file.flush()
            done = subprocess.run(
                [sys.executable, "-m", *words],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                timeout=STEP_SECONDS,
                check=False,
            )
            file.write(done.stdout)
        if done.returncode != 0 and not may_fail:
            last = log().read_text(encoding="utf-8").strip().splitlines()[-1]
            raise CommandError(f"`{' '.join(words[:3])}` ended with {done.returncode}: {last}")
        return done.stdout

    return runner


def require_disposable(env: str) -> None:
    """Raises CommandError where the settings do not say that the environment may be broken and deleted."""
    if not load_settings(env).environment.disposable:
        raise CommandError(
            f"settings/{env}.yaml does not call {env} disposable: `prove` breaks and deletes what it has. "
            "Set `environment.disposable: true` where nothing is lost by that. Nothing was done."
        )


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 where a step failed."""
    parser = argparse.ArgumentParser(
        prog="python -m operations prove", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True, help="name of the settings file")
    parser.add_argument("--from", dest="source", help="folder of the model; left out, what was uploaded last")
    parser.add_argument("--licence", help="the model's licence, where its files do not tell it")
    parser.add_argument(
        "--image", help="another image URI for the guarded change; left out, a variable changes"
    )
    parser.add_argument("--load-seconds", type=float, default=120)
    parser.add_argument("--keep", action="store_true", help="do not delete the environment at the end")
    parser.add_argument("--folder", type=Path, help="where report and logs go")
    options = parser.parse_args(arguments)

    def work() -> int:
        require_disposable(options.env)
        target = open_target(options.env)
        moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        folder = options.folder or home() / "proofs" / f"{options.env}-{moment}"
        folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        context = ProofContext(
            target=target,
            source=options.source,
            licence=options.licence,
            image=options.image,
            load_seconds=options.load_seconds,
        )
        context.command = command_runner(environment, lambda: context.log)
        context.environment = environment
        prover = Prover(target, folder, context)
        steps = [step for step in STEPS if not (options.keep and step.name == "destroy")]
        passed = prover.run(steps)
        print(f"\n{'Proved' if passed else 'Not proved'}: {folder / 'report.md'}")
        return 0 if passed else 1

    return run(work)
