"""The steps of a proof: what each runs, and what it must show. Each raises CommandError where it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.access import key_pk
from contracts.release_tasks import ServedModel
from operations.cdk import synthesize
from operations.chat import KEY_VARIABLE
from operations.environment_status import read_status
from operations.go_back import GoBack
from operations.inventory import environment_stacks
from operations.laptop import REPOSITORY
from operations.lock import locked
from operations.progress import CommandError, Step, Steps
from operations.proof.change import changed_assembly
from operations.proof.forced_alarm import ForcedAlarm, rollback_alarm
from operations.target import Target

PROMPT = "In one short sentence: what is an evergreen tree?"
_COPY = "proof-copy"
_KEY_ID_DIGITS = 12  # of the key's hash: AccessKey.id
Shown = tuple[str, dict[str, Any]]
"""A step's note and details."""


class NotApplicableError(Exception):
    """The step does not apply here, which is no failure; the message says why."""


@dataclass
class ProofContext:
    """What the steps share. `command` runs `python -m …`; `log` is the present step's file."""

    target: Target
    source: str | None
    licence: str | None
    image: str | None
    load_seconds: float
    command: Callable[..., str] = field(default=lambda *words, **more: "", repr=False)
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    log: Path = Path(os.devnull)
    deployed: bool = False
    key: dict[str, Any] = field(default_factory=dict, repr=False)
    first_version: str = ""
    failed: bool = False

    def operate(self, *words: str, **more: Any) -> str:
        """An operator command on this environment."""
        return self.command("operations", *words, "--env", self.target.name, **more)


@dataclass(frozen=True)
class ProofStep:
    """A step; `fleets` of instances run during it once deployed; `always` also runs after a failure."""

    name: str
    work: Callable[[ProofContext], Shown]
    fleets: float = 1
    always: bool = False


def _preflight(proof: ProofContext) -> Shown:
    proof.operate("preflight")
    return "", {}


def _bootstrap(proof: ProofContext) -> Shown:
    proof.operate("bootstrap")
    return "", {}


def _model(proof: ProofContext) -> Shown:
    if not proof.source:
        raise NotApplicableError("no --from: the settings' source, or what was uploaded last")
    licence = ("--licence", proof.licence) if proof.licence else ()
    proof.operate("model", "--from", proof.source, *licence)
    return proof.source, {}


def _deploy(proof: ProofContext) -> Shown:
    proof.deployed = True
    proof.operate("deploy", "--quiet", "--require-approval", "never")
    proof.first_version = _champion(proof).version
    return f"{proof.first_version} serves", {}


def _key(proof: ProofContext) -> Shown:
    proof.key = json.loads(proof.operate("key", "create", "--tenant", "proof", "--name", "proof", "--json"))
    proof.environment[KEY_VARIABLE] = proof.key["api_key"]
    return "", {}


def _first_answer(proof: ProofContext) -> Shown:
    answer = proof.operate("chat", PROMPT).strip()
    if not answer:
        raise CommandError("the deployed model answered with nothing")
    return answer, {}


def _load(proof: ProofContext) -> Shown:
    seconds = str(proof.load_seconds)
    words = ("operations.proof.load", "--env", proof.target.name, "--seconds", seconds)
    result = json.loads(proof.command(*words).strip().splitlines()[-1])
    return _judged(result), result


def _guarded_change(proof: ProofContext) -> Shown:
    before = _config(proof)
    assembly = changed_assembly(
        _assembly(proof), proof.target.stack("serving"), str(int(time.time())), proof.image
    )
    with _callers(proof) as result:
        _deploy_serving(proof, assembly)
    if _config(proof) == before:
        raise CommandError(f"the endpoint still serves configuration {before}")
    return f"configuration {_config(proof)}; {_judged(result)}", result


def _promotion(proof: ProofContext) -> Shown:
    """A second version, a copy of the first under another name, takes over by a guarded update."""
    first = _champion(proof)
    copy = ServedModel(
        uri=first.uri.rstrip("/") + f"-{_COPY}/", digest=first.digest, version=f"{first.version[:50]}-copy"
    )
    _copy_objects(proof.target, first.uri, copy.uri)
    with _callers(proof) as result, locked(proof.target, "prove"):
        GoBack(proof.target, Steps(proof.log.parent / "promotion")).run(copy)
    return f"{copy.version} replaced {first.version}; {_judged(result)}", result


def _go_back(proof: ProofContext) -> Shown:
    proof.operate("releases", "back", proof.first_version)
    serves = _champion(proof).version
    if serves != proof.first_version:
        raise CommandError(f"{serves} serves, and not {proof.first_version}")
    return f"{serves} serves again", {}


def _forced_rollback(proof: ProofContext) -> Shown:
    alarm = rollback_alarm(proof.target)
    if alarm is None:
        raise NotApplicableError("the settings' deployment has no rollback alarms (kind all_at_once)")
    before = _config(proof)
    value = f"rolled-back-{time.time():.0f}"
    assembly = changed_assembly(_assembly(proof), proof.target.stack("serving"), value)
    with ForcedAlarm(proof.target.client("cloudwatch"), alarm):
        _deploy_serving(proof, assembly, may_fail=True)
        explained = json.loads(proof.operate("why", "--json", may_fail=True))
    if _config(proof) != before:
        raise CommandError(f"the alarm {alarm} did not roll the update back: {_config(proof)} serves")
    causes = [cause["name"] for cause in explained["causes"]]
    if causes[:1] != ["alarm"]:
        raise CommandError(f"`why` names {causes[:1] or 'nothing'} and not the alarm")
    answer = proof.operate("chat", PROMPT).strip()
    return f"{alarm} rolled it back; {before} serves: {answer!r}", explained


def _status(proof: ProofContext) -> Shown:
    return "", json.loads(proof.operate("status", "--json"))


def _explain(proof: ProofContext) -> Shown:
    if not proof.failed:
        raise NotApplicableError("nothing failed")
    explained = json.loads(proof.operate("why", "--json", may_fail=True) or '{"causes": []}')
    causes = [cause["title"] for cause in explained["causes"]]
    return causes[0] if causes else "no known cause", explained


def _revoke_key(proof: ProofContext) -> Shown:
    if not proof.key:
        raise NotApplicableError("there is none")
    _, _, digest = key_pk(proof.key["api_key"]).partition("#")
    proof.operate("key", "revoke", "--id", digest[:_KEY_ID_DIGITS])
    return "", {}


def _destroy(proof: ProofContext) -> Shown:
    proof.operate("destroy", "--yes")
    left = environment_stacks(proof.target)
    if left:
        raise CommandError(f"{', '.join(stack.name for stack in left)} are still there")
    proof.deployed = False
    return "no stack is left", {}


STEPS = (
    ProofStep("bootstrap", _bootstrap, fleets=0),
    ProofStep("preflight", _preflight, fleets=0),
    ProofStep("model", _model, fleets=0),
    ProofStep("deploy", _deploy),
    ProofStep("key", _key),
    ProofStep("first answer", _first_answer),
    ProofStep("load", _load),
    ProofStep("guarded change", _guarded_change, fleets=2),
    ProofStep("promotion", _promotion, fleets=2),
    ProofStep("go back", _go_back, fleets=2),
    ProofStep("forced rollback", _forced_rollback, fleets=2),
    ProofStep("status", _status, always=True),
    ProofStep("why", _explain, always=True),
    ProofStep("revoke key", _revoke_key, always=True),
    ProofStep("destroy", _destroy, always=True),
)


def _champion(proof: ProofContext) -> ServedModel:
    return GoBack(proof.target, Steps(proof.log.parent / "promotion")).champion


def _config(proof: ProofContext) -> str:
    """The configuration that the endpoint serves."""
    endpoints = read_status(proof.target).endpoints
    if not endpoints or endpoints[0].status != "InService":
        raise CommandError(f"the endpoint is {endpoints[0].status if endpoints else 'gone'}")
    return endpoints[0].config


def _assembly(proof: ProofContext) -> Path:
    return synthesize(proof.target.name, Step("cdk synth", proof.log.with_suffix(".synth.log")))


def _deploy_serving(proof: ProofContext, assembly: Path, *, may_fail: bool = False) -> None:
    words = ("deploy", "--quiet", "--require-approval", "never", "--assembly", str(assembly))
    proof.operate(*words, "--exclusively", proof.target.stack("serving"), may_fail=may_fail)


def _copy_objects(target: Target, source: str, destination: str) -> None:
    s3 = target.client("s3")
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    to_bucket, _, to_prefix = destination.removeprefix("s3://").partition("/")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            place = {"Bucket": bucket, "Key": entry["Key"]}
            s3.copy(place, to_bucket, to_prefix + entry["Key"].removeprefix(prefix))


@contextmanager
def _callers(proof: ProofContext) -> Iterator[dict[str, Any]]:
    """Load while something changes; its result is there afterwards."""
    over = proof.log.with_suffix(".over")
    over.unlink(missing_ok=True)
    result: dict[str, Any] = {}
    words = [sys.executable, "-m", "operations.proof.load", "--env", proof.target.name, "--until", str(over)]
    with proof.log.with_suffix(".load.log").open("w") as errors:
        process = subprocess.Popen(
            words, cwd=REPOSITORY, env=proof.environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            yield result
        finally:
            over.touch()
            output, _ = process.communicate(timeout=300)
            over.unlink()
            if output.strip():
                result.update(json.loads(output.strip().splitlines()[-1]))


def _judged(result: dict[str, Any]) -> str:
    """The load in words. Raises CommandError where a caller got no answer."""
    if not result.get("answers"):
        reasons = "; ".join(result.get("reasons", [])) or "the load did not run"
        raise CommandError(f"callers got no answer: {reasons}")
    if result["failures"]:
        raise CommandError(f"{result['failures']} requests failed: {'; '.join(result['reasons'])}")
    return f"{result['answers']} answers, none failed, first token p95 {result['first_token_ms_p95']} ms"
