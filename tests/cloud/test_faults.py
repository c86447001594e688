"""Kill it and see it come back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.support.laptop import REPOSITORY, Laptop, free_port

ANSWERS_AGAIN_WITHIN_SECONDS = 30
HELLO = [{"role": "user", "content": "Hi"}]


def handler_processes(laptop: Laptop) -> list[int]:
    """The model handler processes of this laptop cloud, told apart by its home in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            ours = str(laptop.home).encode() in (folder / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if b"model_code.serving" in command and ours:
            found.append(int(folder.name))
    return found


def ask(laptop: Laptop, model: str) -> httpx.Response:
    """One short chat request."""
    body = {"model": model, "messages": HELLO, "max_tokens": 2}
    return httpx.post(f"{laptop.api_url}/chat/completions", json=body, headers=laptop.headers, timeout=60)


def test_killed_handler_is_replaced_and_requests_meanwhile_are_told_to_retry(laptop: Laptop) -> None:
    model = laptop.model
    killed = handler_processes(laptop)
    assert killed, "no handler process found"
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    started, seen = time.monotonic(), []
    while time.monotonic() - started < 10 * ANSWERS_AGAIN_WITHIN_SECONDS:
        reply = ask(laptop, model)
        seen.append(reply.status_code)
        if reply.status_code == 200 and len(seen) > 1:
            break
        assert reply.status_code in (200, 503), reply.text
        if reply.status_code == 503:
            assert int(reply.headers["retry-after"]) > 0
            assert reply.json()["error"]["type"] == "overloaded_error"
        time.sleep(0.3)
    assert seen[-1] == 200
    assert 503 in seen
    assert set(handler_processes(laptop)).isdisjoint(killed)


def test_port_in_use_is_one_clear_sentence(laptop: Laptop) -> None:
    """Another home on the same port is refused, and says which one holds it."""
    other = Laptop(laptop.home.with_name("test-other"), laptop.port, laptop.environment.copy())
    other.environment["EVERGREEN_HOME"] = str(other.home)
    done = other.command("up", "--tiny")
    assert done.returncode == 1
    assert f"port {laptop.port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("chat", "hi")])
def test_commands_before_up_say_what_to_run(words: tuple[str, ...], tmp_path: Path) -> None:
    nowhere = Laptop(tmp_path, free_port(), os.environ | {"EVERGREEN_HOME": str(tmp_path)})
    done = nowhere.command(*words)
    assert done.returncode == 1
    assert "make up" in done.stderr
    assert str(REPOSITORY) not in done.stderr


def test_second_up_converges_without_redoing_work(laptop: Laptop) -> None:
    before = handler_processes(laptop)
    key = laptop.outputs["api_key"]
    printed = laptop.up().stdout
    assert "already running" in printed
    assert "nothing changed" in printed
    assert laptop.outputs["api_key"] == key
    assert handler_processes(laptop) == before


def test_killed_emulator_comes_back_with_the_next_up(laptop: Laptop) -> None:
    health = httpx.get(f"http://127.0.0.1:{laptop.port}/_evergreen/health", timeout=10).json()
    key = laptop.outputs["api_key"]
    os.kill(int(health["pid"]), signal.SIGKILL)
    laptop.up()
    assert laptop.outputs["api_key"] == key
    assert ask(laptop, laptop.model).status_code == 200
