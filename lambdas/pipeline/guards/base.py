"""What a guard is, and how several are asked as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from lambdas.runtime.errors import ApiError
from lambdas.runtime.logs import Logger


class Action(StrEnum):
    """What a finding asks for."""

    MASK = "mask"
    BLOCK = "block"


@dataclass(frozen=True)
class Finding:
    """What a guard saw at `text[start:end]`. `label` is for programs: `email`, a topic, a rule."""

    guard: str
    label: str
    action: Action
    start: int
    end: int

    def __str__(self) -> str:
        """For records and logs."""
        return f"{self.guard}:{self.label}:{self.action}"


class Guard(Protocol):
    """One check. `name` is what metrics and refusals call it."""

    name: str

    def check(self, text: str) -> list[Finding]:
        """What there is to mask or to block; empty where nothing is. Raises what its provider raises."""


@dataclass
class GuardTimes:
    """Milliseconds each guard has taken for one request, and whether one that failed was passed by."""

    by_guard: dict[str, float] = field(default_factory=dict)
    passed_by: bool = False

    def add(self, guard: str, milliseconds: float) -> None:
        """Count one check."""
        self.by_guard[guard] = self.by_guard.get(guard, 0.0) + milliseconds


@dataclass
class GuardReport:
    """What the guards found in one request, and the time they took."""

    findings: list[Finding] = field(default_factory=list)
    times: GuardTimes = field(default_factory=GuardTimes)

    @property
    def blocked_by(self) -> Finding | None:
        """The first finding that refuses the request or its answer."""
        return next((finding for finding in self.findings if finding.action is Action.BLOCK), None)


class Guards:
    """All guards of a direction, asked in order."""

    def __init__(
        self,
        guards: Sequence[Guard],
        logger: Logger,
        *,
        fail_open: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._guards = guards
        self._logger = logger
        self._fail_open = fail_open
        self._clock = clock

    def __bool__(self) -> bool:
        return bool(self._guards)

    def check(self, text: str, times: GuardTimes) -> list[Finding]:
        """All findings. Raises ApiError 503 where a guard fails that must not be passed by."""
        findings: list[Finding] = []
        for guard in self._guards:
            started = self._clock()
            try:
                findings += guard.check(text)
            except Exception as error:
                self._logger.failure("guard_failed", error, guard=guard.name)
                if not self._fail_open:
                    raise ApiError(
                        "overloaded_error",
                        "The request could not be checked.",
                        code="guard_unavailable",
                        retry_after=5,
                    ) from error
                times.passed_by = True
            times.add(guard.name, (self._clock() - started) * 1000)
        return findings
