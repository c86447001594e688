"""Steps with their times on the terminal, their output in log files, and failures as one clear sentence."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

TAIL_LINES = 15


class CommandError(Exception):
    """The command cannot go on; the message says in one sentence what to change."""


class Steps:
    """Prints each step with its seconds and keeps the times for `timings.json`."""

    def __init__(self, logs: Path, seconds: dict[str, float] | None = None) -> None:
        self.logs = logs
        self.seconds: dict[str, float] = dict(seconds or {})
        self._lock = threading.Lock()
        logs.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """One step: a line when it is done or has failed. Steps may run in several threads."""
        started = time.monotonic()
        current = Step(name, self.logs / f"{name.replace(' ', '-')}.log")
        try:
            yield current
        except BaseException:
            self._print("✗", name, time.monotonic() - started, "")
            raise
        took = time.monotonic() - started
        self.seconds[name] = round(took, 2)
        self._print("✓", name, took, current.note)

    def _print(self, mark: str, name: str, seconds: float, note: str) -> None:
        with self._lock:
            print(f"  {mark} {name:<28}{seconds:7.1f} s   {note}".rstrip(), flush=True)

    @classmethod
    def resumed(cls, logs: Path, timings: Path | None) -> Steps:
        """Steps that go on with the times that an earlier process saved."""
        return cls(logs, json.loads(timings.read_text()) if timings and timings.exists() else None)

    def save(self, path: Path) -> None:
        """Writes the seconds of each step as JSON."""
        path.write_text(json.dumps(self.seconds, indent=2) + "\n")


class Step:
    """A running step: a place for a short note, and commands whose output goes to the step's log."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.note = ""
        log.write_text("")

    def run(
        self,
        command: Sequence[str | Path],
        *,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 1800,
        capture: bool = False,
    ) -> str:
        """Runs a command to its end, its output in the log; `capture` returns its standard output instead.

        Raises CommandError with the last lines of its output when it fails or takes over `timeout` seconds.
        """
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(map(str, command))}\n")
            log.flush()
            try:
                done = subprocess.run(
                    [str(word) for word in command],
                    env=env,
                    cwd=cwd,
                    timeout=timeout,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if capture else log,
                    stderr=log,
                    text=True,
                )
            except FileNotFoundError as missing:
                raise CommandError(f"{command[0]} is not installed: {missing.strerror}.") from missing
            except subprocess.TimeoutExpired as late:
                raise CommandError(
                    f"'{self.name}' took longer than {timeout:.0f} s and was stopped; its log: {self.log}"
                ) from late
        if done.returncode != 0:
            raise CommandError(f"'{self.name}' failed; its log: {self.log}\n{self.tail()}")
        return done.stdout or ""

    def tail(self) -> str:
        """The last lines of the log, indented."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines)


def fail(problem: Exception) -> int:
    """Prints what is wrong in one sentence to standard error; returns the exit code."""
    print(f"\nevergreen: {problem}", file=sys.stderr)
    return 1
