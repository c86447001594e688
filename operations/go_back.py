"""Lets the endpoint serve an earlier version again: a guarded update under the endpoint's lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from botocore.exceptions import ClientError

from contracts import guardrails
from contracts.release_ledger import Lock
from contracts.release_tasks import ServedModel
from operations.aws_errors import code_of
from operations.diagnosis.evidence import Findings
from operations.diagnosis.facts import look_at_artefact
from operations.environment_status import read_status
from operations.inventory import DeployedStack, environment_stacks
from operations.progress import CommandError, Steps
from operations.release_history import RegisteredModel, ReleaseRecord, read_lock
from operations.release_writes import LedgerWriter, drop_lock, route_to_champion, take_lock
from operations.serving_check import check_serving
from operations.stack_update import WAIT_SECONDS, ServingStackUpdate
from operations.target import Target

WENT_BACK = "went_back"
"""How such a release ends in the ledger."""
_RUNNING = ("RUNNING", "PENDING_REDRIVE")


@dataclass(frozen=True)
class KnownVersion:
    """A version that the registry or the ledger knows, and whether it has served callers."""

    model: ServedModel
    served: bool


def known_versions(
    releases: Sequence[ReleaseRecord], registry: Sequence[RegisteredModel]
) -> dict[str, KnownVersion]:
    """Versions by name. What a release was to replace has served, and what it promoted."""
    promoted = {
        release.challenger.version
        for release in releases
        if release.outcome in ("promoted", WENT_BACK) and release.challenger
    }
    models = [package.model for package in registry]
    models += [release.challenger for release in releases if release.challenger]
    known = {model.version: KnownVersion(model, model.version in promoted) for model in models}
    for base in (release.base for release in releases):
        if base:
            known[base.version] = KnownVersion(base, served=True)
    for package in registry:
        if package.base:
            known[package.base.version] = KnownVersion(package.base, served=True)
    return known


def choose(
    name: str, releases: Sequence[ReleaseRecord], known: dict[str, KnownVersion], *, unserved: bool
) -> ServedModel:
    """The model of a version or a release. Raises CommandError for one that is unknown or never served."""
    release = next((release for release in releases if release.id == name), None)
    version = release.challenger.version if release and release.challenger else name
    if version not in known:
        served = sorted(version for version, entry in known.items() if entry.served)
        raise CommandError(
            f"no release and no version is called '{name}'. Versions that have served: "
            f"{', '.join(served) or 'none'}."
        )
    if not known[version].served and not unserved:
        raise CommandError(
            f"{version} was never promoted: release it through the loop, or add --unserved to do without."
        )
    return known[version].model


class GoBack:
    """One way back, by a command that has the environment's lock. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        target: Target,
        steps: Steps,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._target, self._steps, self._clock, self._sleep = target, steps, clock, sleep
        stacks = {stack.part: stack for stack in environment_stacks(target)}
        self._serving, self._data = _required(stacks, "serving"), _required(stacks, "data")
        self._dynamodb = target.client("dynamodb")
        self._ledger = self._data.outputs["LedgerTableName"]
        self._endpoint = target.settings.endpoint_name

    @property
    def champion(self) -> ServedModel:
        """What the serving stack names as champion."""
        given = self._serving.parameters
        return ServedModel(
            uri=given["ChampionModelUri"],
            digest=given["ChampionModelDigest"],
            version=given["ChampionModelVersion"],
        )

    def run(self, model: ServedModel) -> None:
        """Serves the model. Raises CommandError where it may not begin, or another serves at the end."""
        with self._steps.step("check") as step:
            self._check_rest()
            self._check_artefact(model)
            step.note = f"{self.champion.version} serves"
        before = self.champion
        release_id = f"back-{int(self._clock())}"
        held = self._holder()
        lock = Lock(
            release_id=release_id,
            execution_arn="",
            acquired_at=round(self._clock(), 3),
            champion=before,
            expires_at=round(self._clock() + WAIT_SECONDS, 3),
        )
        take_lock(self._dynamodb, self._ledger, self._endpoint, lock, held)
        ledger = LedgerWriter(self._dynamodb, self._ledger, release_id, self._clock)
        caller = self._target.caller or "an operator"
        ledger.note(
            "acquire_lock",
            "acquired",
            f"{before.version} serves; {caller} goes back.",
            before.model_dump(),
        )
        outcome, reason = "failed", "interrupted"
        try:
            ledger.note(
                "go_back", "started", f"{model.version} replaces {before.version}.", model.model_dump()
            )
            self._update(model, release_id)
            outcome, reason = WENT_BACK, f"{model.version} serves again."
        except (CommandError, ClientError) as error:
            reason = str(error)
            raise
        finally:
            ledger.note("release_lock", outcome, reason[:1000], {"lock": "freed"})
            drop_lock(self._dynamodb, self._ledger, self._endpoint, release_id)

    def _update(self, model: ServedModel, release_id: str) -> None:
        known = self._serving.parameters
        wanted = {
            "ChampionModelUri": model.uri,
            "ChampionModelDigest": model.digest,
            "ChampionModelVersion": model.version,
            guardrails.PARAMETER: guardrails.USE,
            guardrails.VERSION_PARAMETER: "",
        }
        with self._steps.step("update") as step:
            update = ServingStackUpdate(self._target, step.say, sleep=self._sleep)
            update.run({name: value for name, value in wanted.items() if name in known}, release_id)
            step.note = "guarded: alarms roll it back" if guardrails.PARAMETER in known else ""
        with self._steps.step("check what serves") as step:
            self._check_serving(model)
            access = self._data.outputs["AccessTableName"]
            route_to_champion(self._dynamodb, access, self._endpoint, model.version)
            step.note = model.version

    def _check_rest(self) -> None:
        if self._serving.is_changing:
            raise CommandError(f"{self._serving.name} is {self._serving.status}: wait until it is at rest.")
        phase = self._serving.parameters.get("Phase", "steady")
        if phase != "steady":
            raise CommandError(
                f"an experiment is under way (phase {phase}): end it first. Stop its execution and start a "
                "new one, which puts the champion back (docs/monitoring.md, refresh-failed)."
            )

    def _check_artefact(self, model: ServedModel) -> None:
        findings = Findings()
        hook = bool(getattr(self._target.settings.endpoint.engine, "hook", False))
        s3 = self._target.client("s3")
        look_at_artefact(findings, s3, model.uri, self._target.region, hook=hook, digest=model.digest)
        if findings.evidence:
            raise CommandError(f"{model.version} cannot be served: {findings.evidence[0].text}.")

    def _holder(self) -> Lock | None:
        """A lock whose holder may no longer act. Raises CommandError while somebody may."""
        lock = read_lock(self._dynamodb, self._ledger, self._endpoint)
        if lock is None:
            return None
        # An operator's lock is of a command that was killed: this one has the environment's lock.
        if lock.expires_at is None and self._is_running(lock.execution_arn):
            since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(lock.acquired_at))
            raise CommandError(
                f"the release {lock.release_id} holds the endpoint's lock since {since}: wait for its end, "
                "or stop its execution."
            )
        return lock

    def _is_running(self, execution_arn: str) -> bool:
        try:
            found = self._target.client("stepfunctions").describe_execution(executionArn=execution_arn)
        except ClientError as error:
            if code_of(error) == "ExecutionDoesNotExist":
                return False
            raise
        return found["status"] in _RUNNING

    def _check_serving(self, model: ServedModel) -> None:
        """Raises CommandError where something else serves: SageMaker may roll back silently."""
        check_serving(self._target, self._clock, self._sleep, in_ledger=False)
        status = read_status(self._target)
        endpoint = next((one for one in status.endpoints if one.region == self._target.region), None)
        if endpoint is None or endpoint.status != "InService":
            raise CommandError(f"the endpoint is {endpoint.status if endpoint else 'gone'}: make why.")
        serves = {variant.model_version for variant in endpoint.variants}
        if serves and serves != {model.version}:
            raise CommandError(f"the endpoint serves {', '.join(sorted(serves))} and not {model.version}.")


def _required(stacks: dict[str, DeployedStack], part: str) -> DeployedStack:
    if part not in stacks:
        raise CommandError(f"the stack {part} is not deployed: there is nothing to go back on.")
    return stacks[part]
