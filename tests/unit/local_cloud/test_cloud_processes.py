"""The ledger of child processes: it ends what it recorded, and nobody else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.cloud.process_table import ProcessTable, started_at

SLEEP = "import time; time.sleep(600)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""
Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def run(code: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
        started.append(child)
        return child

    yield run
    for child in started:
        child.kill()
        child.wait(timeout=30)
        child.stdout.close()


def test_recorded_children_are_ended(start: Start, tmp_path: Path) -> None:
    ledger = ProcessTable(tmp_path)
    child = start(SLEEP)
    ledger.record(child.pid, "a worker")

    assert ledger.end_all() == ["a worker"]
    assert child.wait(timeout=30) != 0
    assert ledger.end_all() == []


def test_a_child_that_ignores_the_request_is_killed(start: Start, tmp_path: Path) -> None:
    ledger = ProcessTable(tmp_path)
    child = start(STUBBORN)
    child.stdout.readline()
    ledger.record(child.pid, "stubborn")

    ledger.end_all(grace_seconds=0.2)

    assert child.wait(timeout=30) == -9


def test_a_recycled_process_id_is_left_alone(start: Start, tmp_path: Path) -> None:
    unrelated = start(SLEEP)
    entry = {"pid": unrelated.pid, "started_at": "1", "purpose": "somebody long gone"}
    (tmp_path / f"{unrelated.pid}.json").write_text(json.dumps(entry))

    assert ProcessTable(tmp_path).end_all() == []
    assert unrelated.poll() is None


def test_forgotten_and_unreadable_records_end_nobody(start: Start, tmp_path: Path) -> None:
    ledger = ProcessTable(tmp_path)
    child = start(SLEEP)
    ledger.record(child.pid, "done")
    ledger.forget(child.pid)
    (tmp_path / "1.json").write_text("{")

    assert ledger.end_all() == []
    assert child.poll() is None


def test_a_process_that_ended_has_no_start_time(start: Start) -> None:
    child = start("")
    child.wait(timeout=30)

    assert started_at(child.pid) is None
