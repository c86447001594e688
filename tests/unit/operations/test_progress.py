"""Commands that a step runs: what is shown while they take long, and that they end with the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from operations import progress
from operations.progress import CommandError, Step

PARENT = """
import sys
from pathlib import Path
from operations.progress import Step
Step("deploy", Path(sys.argv[1])).run(
    [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(300)"],
    ends_with_parent=True,
)
"""


def test_a_long_command_shows_the_last_line_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "WAITING_SECONDS", 0.1)
    script = "import time\nfor n in range(3):\n    print('stack', n, flush=True)\n    time.sleep(0.5)"
    Step("deploy", tmp_path / "log").run([sys.executable, "-c", script])
    shown = capsys.readouterr().out
    assert "stack 2" in shown
    assert shown.count("stack 1") == 1  # a line that did not change is not shown again


def test_a_command_that_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WAITING_SECONDS", 0.1)
    began = time.monotonic()
    with pytest.raises(CommandError, match="took longer than 1 s"):
        Step("deploy", tmp_path / "log").run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=1)
    assert time.monotonic() - began < 30


def test_what_a_failed_command_said_last_is_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no such stack"):
        Step("deploy", tmp_path / "log").run([sys.executable, "-c", "import sys; sys.exit('no such stack')"])


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends children with their parent")
def test_a_command_does_not_outlive_a_command_line_that_was_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(log)])
    deadline = time.monotonic() + 60
    while not (
        log.exists() and log.read_text().splitlines()[-1:] and log.read_text().splitlines()[-1].isdigit()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = int(log.read_text().splitlines()[-1])
    parent.send_signal(signal.SIGKILL)
    parent.wait(timeout=30)
    while Path(f"/proc/{child}").exists() and "Z" not in _state(child):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            pytest.fail("the command outlived its parent")
        time.sleep(0.05)


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"
