"""Holds an alarm in ALARM while something else runs: CloudWatch's next evaluation would put it back."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from operations.inventory import environment_stacks, physical_ids, stack_resources
from operations.target import Target

REASON = "Forced by make prove"
_EVERY_SECONDS = 5.0


def rollback_alarm(target: Target) -> str | None:
    """The name of one alarm that rolls an update of the endpoint back; None where there is none."""
    for stack in environment_stacks(target):
        if stack.part == "serving":
            resources = stack_resources(target.client("cloudformation"), stack.name)
            return next(iter(sorted(physical_ids(resources, "AWS::CloudWatch::Alarm"))), None)
    return None


class ForcedAlarm:
    """A context manager: the alarm is in ALARM within it, and OK afterwards."""

    def __init__(self, cloudwatch: Any, name: str, every_seconds: float = _EVERY_SECONDS) -> None:
        self._cloudwatch, self._name, self._every = cloudwatch, name, every_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True)

    def __enter__(self) -> ForcedAlarm:
        self._set("ALARM")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        self._set("OK")

    def _hold(self) -> None:
        while not self._done.wait(self._every):
            try:
                self._set("ALARM")
            except (ClientError, BotoCoreError):
                continue  # throttled: the next round is seconds away

    def _set(self, state: str) -> None:
        self._cloudwatch.set_alarm_state(AlarmName=self._name, StateValue=state, StateReason=REASON)
