"""Tells a person what is going on: a bar on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import sys
from types import TracebackType

_BAR_WIDTH = 30


def say(line: str) -> None:
    """One line for a person."""
    print(f"model: {line}", file=sys.stderr, flush=True)


class Progress:
    """A context manager that counts up to `total` units; draws at most one update per per cent."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = max(total, 1)
        self._done = 0
        self._shown = -1
        self._bar = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        if not self._bar:
            say(self._label)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            print(file=sys.stderr, flush=True)

    def advance(self, units: int = 1) -> None:
        """Count `units` more as done."""
        self._done += units
        percent = min(100, 100 * self._done // self._total)
        if self._bar and percent != self._shown:
            self._shown = percent
            filled = "█" * (percent * _BAR_WIDTH // 100)
            line = f"\rmodel: {self._label} {filled:<{_BAR_WIDTH}} {percent:3d} %"
            print(line, end="", file=sys.stderr, flush=True)
