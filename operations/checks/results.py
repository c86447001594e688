"""The answer of a check: fulfilled, not fulfilled, or not to be told yet, with the next step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Mark(Enum):
    """How a check ended, as it is shown."""

    PASSED = "✓"
    FAILED = "✗"
    OPEN = "–"
    """Cannot be told yet, or is worth a word; does not stop a deploy."""


@dataclass(frozen=True)
class Result:
    """One line of the report: what was looked at, what was found, and what to do where that is not enough."""

    mark: Mark
    subject: str
    found: str
    next_step: str = ""


def passed(subject: str, found: str) -> Result:
    """The check is fulfilled."""
    return Result(Mark.PASSED, subject, found)


def failed(subject: str, found: str, next_step: str) -> Result:
    """A deploy would fail, or run into nothing."""
    return Result(Mark.FAILED, subject, found, next_step)


def unsettled(subject: str, found: str, next_step: str = "") -> Result:
    """Nothing stands in the way as far as can be told now."""
    return Result(Mark.OPEN, subject, found, next_step)
