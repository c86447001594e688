"""Processes of a measurement: started, waited for, ended; and how much processor time they have used."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    words: Sequence[str | Path], log: Path, environment: dict[str, str], url: str, patience: float
) -> Iterator[subprocess.Popen[bytes]]:
    """A child for the length of the block, from when `url` answers anything.

    Raises RuntimeError when it ends before that.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        child = subprocess.Popen(words, stdout=out, stderr=out, env=os.environ | environment)
    try:
        deadline = time.monotonic() + patience
        while not _answers(url):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{words[0]} is not ready: see {log}")
            time.sleep(0.1)
        yield child
    finally:
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own address
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time that these processes have used; one that has ended counts no more."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, pending = [], [pid]
    while pending:
        found.append(pending.pop())
        pending += children.get(found[-1], [])
    return found


def cpu_clock(pid: int) -> float:
    """As `cpu_seconds`, of one process that runs, and finer than the ticks of /proc."""
    return time.clock_gettime(~pid << 3 | 2)  # the process's clock, as clock_getcpuclockid(3) names it
