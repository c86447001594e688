"""What the function `release` does, task by task: each under the lock, each with its row in the ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from pydantic import BaseModel

from contracts import release_tasks
from contracts.release_tasks import (
    DataFound,
    FollowStarted,
    LoadedSettings,
    LoopSettings,
    Nothing,
    Registered,
    Settled,
    Snapshot,
    StackUpdate,
    StageStarted,
    TrainingParameters,
    UpdatePlanned,
)
from contracts.training import metric_definitions
from lambdas.release import rollout
from lambdas.release.approval import PackageApproval
from lambdas.release.errors import BadInputError, TopologyTimeoutError
from lambdas.release.lock import ReleaseLocks
from lambdas.release.registry import ModelRegistration
from lambdas.release.replication import ModelReplication
from lambdas.release.serving_check import count_rollbacks
from lambdas.release.source_data import SourceData
from lambdas.release.store import ReleaseLedger
from lambdas.release.topology import Topology

_MESSAGES = ("errorMessage", "FailureReason", "ExitMessage", "Cause")
_LONGEST_REASON = 1000
DECIDED = ("promoted", "kept")
"""Outcomes of a release that came to a decision; another one failed, and its data may be tried again."""


class ReleaseService:
    """Releases of one endpoint. `replication` serves the second region, where there is one."""

    def __init__(
        self,
        endpoint_name: str,
        serving_stack: str,
        locks: ReleaseLocks,
        topology: Topology,
        registration: ModelRegistration,
        approval: PackageApproval,
        ledger: ReleaseLedger,
        loop: LoopSettings,
        data: SourceData,
        clock: Callable[[], float] = time.time,
        replication: ModelReplication | None = None,
    ) -> None:
        self._endpoint_name = endpoint_name
        self._serving_stack = serving_stack
        self._locks = locks
        self._topology = topology
        self._registration = registration
        self._approval = approval
        self._ledger = ledger
        self._loop = loop
        self._data = data
        self._clock = clock
        self._second_region = replication

    def answer(self, task: release_tasks.AnyReleaseTask) -> BaseModel:
        """Do a task. Raises the errors of lambdas.release.errors."""
        match task:
            case release_tasks.AcquireLock():
                return self._acquire_lock(task)
            case release_tasks.LoadSettings():
                return self._load_settings(task)
            case release_tasks.CheckData():
                return self._check_data(task)
            case release_tasks.DescribeChallenger():
                return self._describe_challenger(task)
            case release_tasks.Register():
                return self._register(task)
            case release_tasks.Approve():
                return self._approve(task)
            case release_tasks.Decide():
                return self._decide(task)
            case release_tasks.StartExperiment():
                return self._start_experiment(task)
            case release_tasks.AwaitTopology():
                return self._await_topology(task)
            case release_tasks.SetShare():
                return self._set_share(task)
            case release_tasks.Promote():
                return self._promote(task)
            case release_tasks.Retire():
                return self._retire(task)
            case release_tasks.Follow():
                return self._follow(task)
            case release_tasks.AwaitFollowed():
                return self._await_followed(task)
            case release_tasks.Restore():
                return self._restore(task)
            case release_tasks.ReleaseLock():
                return self._release_lock(task)

    def _acquire_lock(self, task: release_tasks.AcquireLock) -> Snapshot:
        lock, dead = self._locks.acquire(task.release_id, task.execution_arn, self._topology.champion)
        outcome, reason = "acquired", f"{lock.champion.version} serves."
        if dead is not None:
            outcome = "taken_over"
            reason = f"The release {dead.release_id} no longer runs; {lock.champion.version} serves."
        self._ledger.note(task.release_id, "acquire_lock", outcome, reason, {"trigger": task.trigger})
        # Without a running release nobody ends an experiment that was left behind.
        changes: dict[str, str] = {}
        if self._topology.phase() != "steady":
            changes = self._topology.restore(task.release_id, lock.champion)
        if changes:
            self._ledger.note(
                task.release_id, "acquire_lock", "restoring", "An abandoned experiment is being ended."
            )
        return Snapshot(
            champion=lock.champion,
            endpoint_name=self._endpoint_name,
            serving_stack=self._serving_stack,
            restore=StackUpdate(needed=bool(changes), parameters=changes),
        )

    def _load_settings(self, task: release_tasks.LoadSettings) -> LoadedSettings:
        loop = self._loop
        training = TrainingParameters(**loop.training.model_dump(), metric_definitions=metric_definitions())
        tags = [{"Key": name, "Value": value} for name, value in loop.tags.items()]
        return LoadedSettings(
            approval=loop.approval,
            approval_seconds=loop.approval_seconds,
            second_region=loop.second_region,
            shares=loop.shares,
            stages=len(loop.shares),
            poll_seconds=loop.poll_seconds,
            training=training,
            processing=loop.processing,
            tags=[*tags, {"Key": "evergreen:release", "Value": task.release_id}],
        )

    def _check_data(self, task: release_tasks.CheckData) -> DataFound:
        found = self._data.check(task)
        self._ledger.note(task.release_id, "check_data", found.decision, found.reason)
        return found

    def _planned(self, parameters: dict[str, str]) -> UpdatePlanned:
        return UpdatePlanned(
            needed=bool(parameters),
            parameters=parameters,
            started_at=round(self._clock(), 3),
            poll_seconds=self._loop.poll_seconds,
        )

    def _describe_challenger(self, task: release_tasks.DescribeChallenger) -> release_tasks.ServedModel:
        challenger = self._registration.describe(task)
        self._ledger.note(
            task.release_id,
            "describe_challenger",
            "complete",
            f"{challenger.version}.",
            challenger.model_dump(),
        )
        return challenger

    def _register(self, task: release_tasks.Register) -> Registered:
        arn = self._registration.register(task, self._topology.image())
        self._ledger.note(task.release_id, "register", "registered", f"{arn}.", {"package_arn": arn})
        return Registered(package_arn=arn)

    def _approve(self, task: release_tasks.Approve) -> Nothing:
        self._approval.approve(task)
        asked = task.status == "PendingManualApproval"
        self._ledger.note(
            task.release_id,
            "approve",
            "asked" if asked else task.status.lower(),
            "The approvers were asked." if asked else "Decided by the settings.",
            {"package_arn": task.package_arn},
        )
        return Nothing()

    def _decide(self, task: release_tasks.Decide) -> Nothing:
        self._approval.decide(task)
        self._ledger.note(task.release_id, "decide", task.decision, "A person decided.")
        return Nothing()

    def _start_experiment(self, task: release_tasks.StartExperiment) -> UpdatePlanned:
        self._locks.require(task.release_id)
        changes = self._topology.start(task.release_id, task.champion, task.challenger)
        self._ledger.note(
            task.release_id,
            "start_experiment",
            "started",
            f"{task.challenger.version} comes to stand beside {task.champion.version}.",
        )
        return self._planned(changes)

    def _await_topology(self, task: release_tasks.AwaitTopology) -> Settled:
        # Without the lock the topology is another release's to wait for.
        with count_rollbacks(self._endpoint_name):
            settled = self._locks.mine(task.release_id) is None or self._topology.settled(task.phase)
        if settled:
            self._ledger.note(task.release_id, "await_topology", "settled", f"Phase {task.phase}.")
        elif rollout.update_is_late(task.started_at, self._clock()):
            raise TopologyTimeoutError(
                f"No rest in phase {task.phase} within {rollout.UPDATE_DEADLINE_SECONDS} s."
            )
        return Settled(settled=settled)

    def _set_share(self, task: release_tasks.SetShare) -> StageStarted:
        self._locks.require(task.release_id)
        self._topology.share(task.release_id, task.share, task.champion, task.challenger)
        started = StageStarted(stage=task.stage, started_at=round(self._clock(), 3))
        reason = f"{task.challenger.version} gets {100 * task.share:g} % of the traffic."
        self._ledger.note(task.release_id, "set_share", "started", reason, started.model_dump())
        return started

    def _promote(self, task: release_tasks.Promote) -> UpdatePlanned:
        self._locks.require(task.release_id)
        changes = self._topology.promote(task.release_id, task.champion, task.challenger)
        reason = f"{task.challenger.version} replaces {task.champion.version}."
        self._ledger.note(task.release_id, "promote", "started", reason)
        return self._planned(changes)

    def _retire(self, task: release_tasks.Retire) -> UpdatePlanned:
        self._locks.require(task.release_id)
        changes = self._topology.retire(task.release_id, task.challenger)
        self._ledger.note(task.release_id, "retire", "started", "The challenger variant goes.")
        return self._planned(changes)

    def _follow(self, task: release_tasks.Follow) -> FollowStarted:
        self._locks.require(task.release_id)
        execution_arn = self._replication.start(task.release_id, task.champion)
        self._ledger.note(
            task.release_id, "follow", "started", f"The second region gets {task.champion.version}."
        )
        return FollowStarted(
            execution_arn=execution_arn,
            started_at=round(self._clock(), 3),
            poll_seconds=self._loop.poll_seconds,
        )

    def _await_followed(self, task: release_tasks.AwaitFollowed) -> Settled:
        with count_rollbacks(self._endpoint_name):
            settled = self._replication.done(task.champion, task.execution_arn)
        if settled:
            reason = f"The second region serves {task.champion.version}."
            self._ledger.note(task.release_id, "await_followed", "settled", reason)
        elif rollout.update_is_late(task.started_at, self._clock()):
            raise TopologyTimeoutError(
                f"The second region did not serve the champion within {rollout.UPDATE_DEADLINE_SECONDS} s."
            )
        return Settled(settled=settled)

    @property
    def _replication(self) -> ModelReplication:
        if self._second_region is None:
            raise BadInputError("There is no second region to follow.")
        return self._second_region

    def _restore(self, task: release_tasks.Restore) -> UpdatePlanned:
        lock = self._locks.mine(task.release_id)
        if lock is None:  # a release that never got the lock has nothing of its own to take back
            return self._planned({})
        champion = task.champion or lock.champion
        changes = self._topology.restore(task.release_id, champion)
        outcome = "started" if changes else "nothing_to_do"
        self._ledger.note(task.release_id, "restore", outcome, f"{champion.version} serves alone.")
        return self._planned(changes)

    def _release_lock(self, task: release_tasks.ReleaseLock) -> Nothing:
        if task.outcome in DECIDED:
            self._data.finish(task.release_id)
        freed = self._locks.release(task.release_id)
        detail = {"lock": "freed" if freed else "not held"}
        self._ledger.note(task.release_id, "release_lock", task.outcome, _words(task.reason), detail)
        return Nothing()


def _words(cause: str) -> str:
    """The message in the JSON that Step Functions gives: a function's error, or a job's description."""
    try:
        told = json.loads(cause)
    except ValueError:
        told = None
    if isinstance(told, dict):
        cause = next((str(told[name]) for name in _MESSAGES if told.get(name)), cause)
    return cause if len(cause) <= _LONGEST_REASON else cause[: _LONGEST_REASON - 1] + "…"
