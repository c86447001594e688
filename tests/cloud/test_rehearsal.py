"""The way from an empty account to a served model, as README shows it: six commands on an empty laptop cloud.

And what goes wrong on that way: a command killed at each of its steps and run again, two operators at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.emulator import VENVS
from tests.support.laptop import EMBEDDING, REPOSITORY, free_port

pytestmark = pytest.mark.laptop  # minutes, and all environments: the lane of what crosses services
MODEL_HOME = REPOSITORY / ".evergreen" / "test"
"""Where the session's laptop cloud keeps its tiny model, which is made once."""
COMMAND_SECONDS = 600


@dataclass
class Account:
    """An empty laptop cloud, and `make` in this checkout pointed at it."""

    home: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """Without credentials of whoever runs the tests."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MAKE"))}
        return clean | {
            "EVERGREEN_HOME": str(self.home), "EVERGREEN_PORT": str(self.port), "EVERGREEN_VENVS": str(VENVS),
        }  # fmt: skip

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Starts `make …` for this account, as the leader of a process group."""
        return subprocess.Popen(
            ["make", "--no-print-directory", *words, "ENV=local", f"PYTHON={sys.executable}"],
            cwd=REPOSITORY, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def make(self, *words: str, code: int = 0) -> str:
        """Runs `make …` to its end; returns what it printed."""
        process = self.begin(*words)
        text, _ = process.communicate(timeout=COMMAND_SECONDS)
        assert (process.returncode == 0) == (code == 0), text
        assert "Traceback" not in text
        return text

    def kill_at(self, step: str, *words: str) -> None:
        """Starts `make …` and kills all of it, as a power cut does, once a step's log has begun."""
        log = self.home / "logs" / f"{step}.log"
        log.unlink(missing_ok=True)
        process = self.begin(*words)
        deadline = time.monotonic() + COMMAND_SECONDS
        while not (log.exists() and (log.stat().st_size or step in ("stacks", "upload-model"))):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, f"{step} did not begin"
            time.sleep(0.05)
        time.sleep(1)  # somewhere inside the step
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def model() -> Path:
    """The tiny random model, which has no licence of its own."""
    return prepared("tiny-llama-random", "--tiny")


@pytest.fixture(scope="module")
def embedding() -> Path:
    """The same for texts' vectors."""
    return prepared("tiny-bert-random", "--tiny-embedding")


def prepared(name: str, which: str) -> Path:
    """The folder of a model that this machine makes."""
    folder = MODEL_HOME / "models" / name
    if not (folder / "manifest.json").exists():
        words: list[str | Path] = [
            VENVS / "serving" / "bin" / "python",
            "-m",
            "local.model",
            which,
            "--home",
            MODEL_HOME,
        ]
        subprocess.run(words, cwd=REPOSITORY, check=True, timeout=COMMAND_SECONDS)
    return folder


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    account = Account(tmp_path / "home", free_port())
    account.make("cloud")
    yield account
    account.make("clean")


def bring(model: Path, *more: str) -> tuple[str, ...]:
    return "model", f"FROM={model}", "LICENCE=Apache-2.0", *more


def key_of(text: str) -> str:
    """The secret that `key` shows once."""
    return next(line.strip() for line in text.splitlines() if line.startswith("eg-"))


def test_six_commands_and_one_for_a_further_model_lead_from_an_empty_account_to_an_answer(
    account: Account, model: Path, embedding: Path, record_property: Callable[[str, object], None]
) -> None:
    started = time.monotonic()
    assert "Next: make preflight ENV=local" in account.make("bootstrap")
    assert "Next: make model ENV=local" in (first := account.make("preflight"))
    assert "– model" in first
    assert "Next: make deploy ENV=local" in account.make(*bring(model))
    assert f"NAME={EMBEDDING} FROM=" in account.make("deploy", code=1)  # it says what is still missing
    account.make(*bring(embedding, f"NAME={EMBEDDING}"))
    assert "Next: make key ENV=local" in account.make("deploy")
    made = account.make("key", "ARGS=create --tenant demo")
    assert f"Next: make chat ENV=local KEY={key_of(made)}" in made
    answer = account.make("chat", f"KEY={key_of(made)}", "PROMPT=Hello!")
    assert len(answer.split()) > 3
    seconds = time.monotonic() - started
    record_property("six_commands_seconds", round(seconds, 1))
    print(f"six commands took {seconds:.0f} s")
    # All of them again change nothing, and preflight now finds the model whole.
    after = account.make("preflight")
    assert "✓ model" in after
    assert "Next: make deploy ENV=local" in after
    assert "already there" in account.make("bootstrap")
    assert "nothing changed" in account.make("deploy")


def test_a_command_killed_at_any_step_is_taken_up_by_the_next_run(
    account: Account, model: Path, embedding: Path
) -> None:
    account.kill_at("cdk-bootstrap-us-east-1", "bootstrap")
    account.make("bootstrap")
    account.kill_at("cdk-synth", *bring(model))
    account.kill_at("cdk-deploy-data", *bring(model))
    account.kill_at("upload-model", *bring(model))
    account.make(*bring(model))
    account.make(*bring(embedding, f"NAME={EMBEDDING}"))
    account.kill_at("stacks", "deploy")
    for _ in range(2):  # in the middle of making the stacks, and of what the first kill has left
        account.kill_at("cdk-deploy---all", "deploy")
    first = account.begin("deploy")
    wait_for(account.home / "logs" / "cdk-deploy---all.log")
    second = account.make("deploy", code=1)
    assert "has been running `deploy` on local since" in second
    text, _ = first.communicate(timeout=COMMAND_SECONDS)
    assert first.returncode == 0, text
    key = key_of(account.make("key", "ARGS=create --tenant demo"))
    assert account.make("chat", f"KEY={key}", "PROMPT=Hello!").strip()


def wait_for(log: Path) -> None:
    """Until a step that begins anew has written to its log."""
    began = time.time()
    deadline = time.monotonic() + COMMAND_SECONDS
    while not (log.exists() and log.stat().st_mtime > began and log.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.05)
