"""Steps with their times on the terminal, their output in log files, and failures as one clear sentence."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

TAIL_LINES = 15
WAITING_SECONDS = 20.0
"""How often a command that takes long shows the last line of its log."""
_LINE_CHARACTERS = 120
_PR_SET_PDEATHSIG = 1
"""The name that Linux's prctl.h gives this call."""
# Looked up here, because between fork and exec nothing may be loaded.
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


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
        ends_with_parent: bool = False,
    ) -> str:
        """Runs a command to its end, its output in the log, and shows every 20 s what goes on.

        Args:
            command: Program and words.
            env: The command's environment; None for this process's.
            cwd: Its working directory.
            timeout: Seconds after which it is stopped.
            capture: Return its standard output instead of logging it.
            ends_with_parent: On Linux, end the command with this process, however that ends: a deploy that
                goes on alone would meet the next one.

        Raises CommandError with the last lines of its output when it fails or takes over `timeout` seconds.
        """
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(map(str, command))}\n")
            log.flush()
            try:
                process = subprocess.Popen(
                    [str(word) for word in command],
                    env=env,
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if capture else log,
                    stderr=log,
                    text=True,
                    preexec_fn=_end_with_parent if ends_with_parent and _PRCTL else None,
                )
            except FileNotFoundError as missing:
                raise CommandError(f"{command[0]} is not installed: {missing.strerror}.") from missing
            output = self._await(process, timeout)
        if process.returncode != 0:
            raise CommandError(f"'{self.name}' failed; its log: {self.log}\n{self.tail()}")
        return output

    def attached(self, command: Sequence[str | Path], *, env: dict[str, str], cwd: Path) -> None:
        """Runs a command that asks at this terminal. Raises CommandError when it fails or is answered no."""
        done = subprocess.run([str(word) for word in command], env=env, cwd=cwd, check=False)
        if done.returncode != 0:
            raise CommandError(f"'{self.name}' failed or was answered with no.")

    def say(self, text: str) -> None:
        """A line below the step while it runs."""
        print(f"      {text}", flush=True)

    def _await(self, process: subprocess.Popen[str], timeout: float) -> str:
        """Waits for the end, and shows that and what goes on; returns what it printed where that is kept."""
        started, shown = time.monotonic(), ""
        while True:
            try:
                output, _ = process.communicate(timeout=WAITING_SECONDS)
                return output or ""
            except subprocess.TimeoutExpired as waiting:
                took = time.monotonic() - started
                if took > timeout:
                    process.kill()
                    process.communicate()
                    raise CommandError(
                        f"'{self.name}' took longer than {timeout:.0f} s and was stopped; its log: {self.log}"
                    ) from waiting
                if (line := self._last_line()) != shown:
                    self.say(f"{took:4.0f} s  {line}")
                    shown = line
            except BaseException:
                process.kill()
                process.wait()
                raise

    def _last_line(self) -> str:
        lines = [
            line for line in self.tail(100).splitlines() if line.strip() and not line.startswith("    $")
        ]
        return lines[-1].strip()[:_LINE_CHARACTERS] if lines else "…"

    def tail(self, lines_kept: int = TAIL_LINES) -> str:
        """The last lines of the log, indented."""
        lines = self.log.read_text(errors="replace").splitlines()[-lines_kept:]
        return "\n".join(f"    {line}" for line in lines)


def _end_with_parent() -> None:
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)


def fail(problem: Exception) -> int:
    """Prints what is wrong in one sentence to standard error; returns the exit code."""
    print(f"\nevergreen: {problem}", file=sys.stderr)
    return 1
