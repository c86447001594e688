"""Acts on alarms and schedules: what changes capacities. Its clock is a parameter, so tests own the time.

One target is changed by at most one activity at a time. An alarm that stays in ALARM acts again once a
minute (every ten seconds if its metric is that quick). Of several policies the one that wants the most
capacity wins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from local.autoscaling import schedules
from local.autoscaling.policies import cooldown_of, step_capacity, tracking_capacity
from local.autoscaling.ports import Alarm, AlarmService, ResourceBusyError, ScalableResources
from local.autoscaling.store import ScalableTarget, ScalingStore, TargetKey
from local.sagemaker.errors import AwsApiError
from local.sagemaker.records import JsonObject

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
AGAIN_SECONDS = 60.0
QUICK_SECONDS = 10.0
_UNITS = {
    "sagemaker:variant:DesiredInstanceCount": "desired instance count",
    "sagemaker:inference-component:DesiredCopyCount": "desired copy count",
    "sagemaker:variant:DesiredProvisionedConcurrency": "desired provisioned concurrency",
}


class ScalingDecision(NamedTuple):
    """A capacity that a policy wants because of an alarm."""

    capacity: int
    policy: JsonObject
    alarm: Alarm


class Scaler:
    """Carries out what policies and schedules want."""

    def __init__(
        self,
        store: ScalingStore,
        resources: ScalableResources,
        alarms: AlarmService,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._resources, self._alarms, self._clock = store, resources, alarms, clock
        self._last_action: dict[str, tuple[Any, float]] = {}
        self._last_checked: dict[TargetKey, float] = {}
        self._pending_limits: dict[TargetKey, tuple[str, float]] = {}
        self._changes: dict[TargetKey, asyncio.Task[None]] = {}

    def tick(self) -> None:
        """Look once. Changes are carried out by tasks of their own; `settle` waits for them."""
        if not self._store.targets:
            return
        now = self._clock()
        in_alarm: list[Alarm] | None = None
        for target in list(self._store.targets.values()):
            if target.key in self._changes:
                continue
            since = self._last_checked.get(target.key, now)
            self._last_checked[target.key] = now
            self._on_schedule(target, since, now)
            if target.policies and target.key not in self._changes:
                if in_alarm is None:
                    in_alarm = [alarm for alarm in self._alarms.all() if _is_in_alarm(alarm)]
                if in_alarm:
                    self._on_alarms(target, in_alarm, now)

    async def settle(self) -> None:
        """Return when no change is under way."""
        while self._changes:
            await asyncio.wait(list(self._changes.values()))

    async def stop(self) -> None:
        """Leave what is under way."""
        for task in self._changes.values():
            task.cancel()
        await asyncio.gather(*self._changes.values(), return_exceptions=True)

    def _on_schedule(self, target: ScalableTarget, since: float, now: float) -> None:
        for name, action in target.schedules.items():
            if target.record["SuspendedState"]["ScheduledScalingSuspended"]:
                continue
            if not action.get("StartTime", 0.0) <= now <= action.get("EndTime", float("inf")):
                continue
            expression = schedules.parse(action["Schedule"], action["Timezone"], action["CreationTime"])
            if not expression.due(since, now):
                continue
            changed = action["ScalableTargetAction"]
            target.record |= changed
            min_capacity, max_capacity = target.record["MinCapacity"], target.record["MaxCapacity"]
            if min_capacity > max_capacity:  # the action moved one limit past the other, which then gives way
                min_capacity = max_capacity = changed.get("MinCapacity", changed.get("MaxCapacity"))
                target.record |= {"MinCapacity": min_capacity, "MaxCapacity": max_capacity}
            changes = [f"{_limit(key)} was set to {value}" for key, value in changed.items()]
            cause = f"scheduled action name {name} was triggered; {' and '.join(changes)}"
            self._pending_limits[target.key] = (cause, now)
        cause, moment = self._pending_limits.get(target.key, ("", float("inf")))
        if moment <= now:
            del self._pending_limits[target.key]
            self._enforce_limits(target, cause, now)

    def _enforce_limits(self, target: ScalableTarget, cause: str, now: float) -> None:
        current = self._current(target)
        if current is not None:
            wanted = min(max(current, target.record["MinCapacity"]), target.record["MaxCapacity"])
            if wanted != current:
                self._change(target, wanted, cause, now)

    def _on_alarms(self, target: ScalableTarget, in_alarm: Sequence[Alarm], now: float) -> None:
        candidates = [
            (policy, alarm)
            for policy in target.policies.values()
            for alarm in in_alarm
            if policy["PolicyARN"] in alarm["AlarmActions"] and self._due(alarm, now)
        ]
        if not candidates:
            return
        current = self._current(target)
        if current is None:
            return
        found = [
            decision
            for policy, alarm in candidates
            if (decision := self._decide(target, policy, alarm, current, now))
        ]
        for _, alarm in candidates:
            self._last_action[alarm["AlarmName"]] = (alarm.get("StateTransitionedTimestamp"), now)
        out = [decision for decision in found if decision.capacity > current]
        if out:
            self._scale(target, max(out, key=_capacity), current, now, out=True)
        elif found:
            less = [
                decision
                for decision in found
                if decision.capacity < current and self._all_agree(target, decision, in_alarm)
            ]
            if less:
                self._scale(target, max(less, key=_capacity), current, now, out=False)

    def _decide(
        self, target: ScalableTarget, policy: JsonObject, alarm: Alarm, current: int, now: float
    ) -> ScalingDecision | None:
        metric = self._alarms.latest(alarm)
        if metric is None:
            return None
        tracking = policy.get("TargetTrackingScalingPolicyConfiguration")
        if tracking is not None:
            high = "AlarmHigh" in alarm["AlarmName"]
            wanted = tracking_capacity(current, metric, tracking["TargetValue"])
            return ScalingDecision(max(wanted, current) if high else min(wanted, current), policy, alarm)
        steps, threshold = policy["StepScalingPolicyConfiguration"], float(alarm["Threshold"])
        wanted_or_none = step_capacity(current, metric, threshold, steps)
        if wanted_or_none is None:
            return None
        cooling = target.cooldowns.get("out")
        if wanted_or_none > current and cooling and now < cooling["until"] and current == cooling["to"]:
            # What the last activity added counts as part of what is wanted while it cools down.
            again = step_capacity(cooling["from"], metric, threshold, steps)
            wanted_or_none = max(current, again if again is not None else current)
        return ScalingDecision(wanted_or_none, policy, alarm)

    def _all_agree(
        self, target: ScalableTarget, decision: ScalingDecision, in_alarm: Sequence[Alarm]
    ) -> bool:
        """Target tracking scales in only when every such policy would."""
        if decision.policy["PolicyType"] != "TargetTrackingScaling":
            return True
        lows = [
            alarm["AlarmName"]
            for policy in target.policies.values()
            for alarm in policy["Alarms"]
            if "AlarmLow" in alarm["AlarmName"]
        ]
        names = {alarm["AlarmName"] for alarm in in_alarm}
        return all(name in names for name in lows)

    def _scale(
        self, target: ScalableTarget, decision: ScalingDecision, current: int, now: float, *, out: bool
    ) -> None:
        suspended = target.record["SuspendedState"]
        if suspended["DynamicScalingOutSuspended" if out else "DynamicScalingInSuspended"]:
            return
        cooling = target.cooldowns
        if not out and any(now < cooling[kind]["until"] for kind in ("in", "out") if kind in cooling):
            return
        cause = (
            f"monitor alarm {decision.alarm['AlarmName']} in state ALARM triggered policy "
            f"{decision.policy['PolicyName']}"
        )
        min_capacity, max_capacity = target.record["MinCapacity"], target.record["MaxCapacity"]
        wanted = min(max(decision.capacity, min_capacity), max_capacity)
        if (wanted <= current) if out else (wanted >= current):
            limit = "AlreadyAtMaxCapacity" if out else "AlreadyAtMinCapacity"
            self._not_scaled(target, cause, limit, current, now)
            return
        kind = "out" if out else "in"
        until = now + cooldown_of(decision.policy, out=out)
        before = dict(cooling)
        cooling[kind] = {"until": until, "from": current, "to": wanted}
        if out:
            cooling.pop("in", None)
        self._change(target, wanted, cause, now, restore=before)

    def _change(
        self, target: ScalableTarget, capacity: int, cause: str, now: float, restore: JsonObject | None = None
    ) -> None:
        task = asyncio.create_task(self._carry_out(target, capacity, cause, now, restore))
        self._changes[target.key] = task
        task.add_done_callback(lambda _: self._changes.pop(target.key, None))

    async def _carry_out(
        self, target: ScalableTarget, capacity: int, cause: str, now: float, restore: JsonObject | None
    ) -> None:
        key, unit = target.key, _UNITS[target.key[2]]
        activity = self._store.note(key, f"Setting {unit} to {capacity}.", cause, StartTime=now)
        try:
            await self._resources.set_capacity(key[1], key[2], capacity)
        except ResourceBusyError as busy:
            self._store.activities.remove(activity)
            current = self._current(target) or 0
            self._not_scaled(target, cause, "TargetServicePutResourceAsUnscalable", current, now, str(busy))
            if restore is None:  # a schedule comes but once, so its limits are still owed
                self._pending_limits[key] = (cause, now + QUICK_SECONDS)
            self._undo(target, restore)
            return
        except Exception as error:
            # Whatever the service's reason: the activity has failed, and the alarm will ask again.
            if not isinstance(error, AwsApiError):
                log.exception("%s: %s could not be set to %d", key[1], unit, capacity)
            message = f"Failed to set {unit} to {capacity}. Reason: {error}"
            activity |= {"StatusCode": "Failed", "StatusMessage": message, "EndTime": self._clock()}
            self._undo(target, restore)
            return
        message = f"Successfully set {unit} to {capacity}. Change successfully fulfilled by sagemaker."
        activity |= {"StatusCode": "Successful", "StatusMessage": message, "EndTime": self._clock()}

    def _undo(self, target: ScalableTarget, cooldowns: JsonObject | None) -> None:
        """Nothing has changed, so nothing has to cool down."""
        if cooldowns is not None:
            target.cooldowns.clear()
            target.cooldowns.update(cooldowns)

    def _not_scaled(
        self, target: ScalableTarget, cause: str, code: str, current: int, now: float, message: str = ""
    ) -> None:
        for last in self._store.activities[:20]:
            if (last["ResourceId"], last["ScalableDimension"]) == target.key[1:]:
                if last["Cause"] == cause and last.get("NotScaledReasons", [{}])[0].get("Code") == code:
                    return  # noted already, and nothing happened since
                break
        reason: JsonObject = {"Code": code, "CurrentCapacity": current}
        if code == "AlreadyAtMaxCapacity":
            reason["MaxCapacity"] = target.record["MaxCapacity"]
        if code == "AlreadyAtMinCapacity":
            reason["MinCapacity"] = target.record["MinCapacity"]
        more = {"StatusMessage": message} if message else {}
        self._store.note(
            target.key,
            "Attempting to scale due to alarm triggered",
            cause,
            StartTime=now,
            EndTime=now,
            StatusCode="Unfulfilled",
            NotScaledReasons=[reason],
            **more,
        )

    def _due(self, alarm: Alarm, now: float) -> bool:
        """Whether an alarm in ALARM acts (again)."""
        transition, acted = self._last_action.get(alarm["AlarmName"], (None, 0.0))
        quick = int(alarm.get("Period") or AGAIN_SECONDS) < AGAIN_SECONDS
        again = QUICK_SECONDS if quick else AGAIN_SECONDS
        return transition != alarm.get("StateTransitionedTimestamp") or now - acted >= again

    def _current(self, target: ScalableTarget) -> int | None:
        try:
            return self._resources.capacity(target.key[1], target.key[2])
        except AwsApiError:
            return None  # gone: its target will follow


def _is_in_alarm(alarm: Alarm) -> bool:
    return (
        alarm["StateValue"] == "ALARM"
        and bool(alarm.get("AlarmActions"))
        and alarm.get("ActionsEnabled", True) is not False
    )


def _capacity(decision: ScalingDecision) -> int:
    return decision.capacity


def _limit(key: str) -> str:
    return "minimum capacity" if key == "MinCapacity" else "maximum capacity"
