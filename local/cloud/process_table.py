"""The table of child processes: whatever the cloud starts, it can find again and end.

Knows nothing of what the processes do. A process is identified by its id together with its start time, so
that a recycled id never ends an unrelated process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.05


def started_at(pid: int) -> str | None:
    """The kernel's start time of a process (an opaque string), None when it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name may hold spaces and parentheses; the fields after it do not.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


@dataclass(frozen=True)
class ProcessTable:
    """One JSON file per live child under `folder`. Children must be started with `start_new_session=True`:
    they are ended by process group."""

    folder: Path

    def record(self, pid: int, purpose: str) -> None:
        """Remember a child that was just started."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = {"pid": pid, "started_at": started_at(pid), "purpose": purpose}
        self._file(pid).write_text(json.dumps(entry))

    def forget(self, pid: int) -> None:
        """A child has ended."""
        self._file(pid).unlink(missing_ok=True)

    def end_all(self, grace_seconds: float = 5.0) -> list[str]:
        """End every recorded process that still runs: SIGTERM, then SIGKILL after the grace. Answers their
        purposes. At start this finds the orphans of a killed run; at stop it is the last resort."""
        entries = [self._read(path) for path in sorted(self.folder.glob("*.json"))]
        living = {entry["pid"]: entry for entry in entries if entry and _same_process(entry)}
        for pid in living:
            _signal_group(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while time.monotonic() < deadline and any(_same_process(entry) for entry in living.values()):
            time.sleep(_POLL_SECONDS)
        for pid, entry in living.items():
            if _same_process(entry):
                _signal_group(pid, signal.SIGKILL)
        for path in self.folder.glob("*.json"):
            path.unlink(missing_ok=True)
        return [entry["purpose"] for entry in living.values()]

    def _file(self, pid: int) -> Path:
        return self.folder / f"{pid}.json"

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            entry: dict[str, Any] = json.loads(path.read_text())
            return entry
        except (OSError, ValueError):
            # A run killed between creating and writing the file; the process then has no record to trust.
            return None


def _same_process(entry: dict[str, Any]) -> bool:
    return entry["started_at"] is not None and started_at(entry["pid"]) == entry["started_at"]


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
