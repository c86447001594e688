"""Two operators at once: the second is told who, and a holder that is gone blocks nobody for long."""

from __future__ import annotations

import concurrent.futures
import os
import socket
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from operations import lock as lock_module
from operations.lock import HOLD_SECONDS, EnvironmentLock, locked
from operations.progress import CommandError
from tests.support.fake_s3 import FakeS3


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> FakeS3:
    monkeypatch.setattr(lock_module, "assets_bucket", lambda _: "bootstrap-bucket")
    return FakeS3()


def target(s3: FakeS3, who: str = "ada") -> Any:
    return SimpleNamespace(client=s3.client, name="prod", caller=f"arn:aws:iam::111122223333:user/{who}")


def test_the_second_operator_is_told_who_what_and_since_when(s3: FakeS3) -> None:
    with locked(target(s3), "deploy"):
        with pytest.raises(CommandError, match=r"user/ada has been running `deploy` on prod since 20.*host"):
            EnvironmentLock(target(s3, "bob"), "model").acquire()
    with locked(target(s3, "bob"), "model"):
        pass
    assert not s3.objects


def test_the_lock_is_given_back_when_the_command_fails(s3: FakeS3) -> None:
    with pytest.raises(ZeroDivisionError), locked(target(s3), "deploy"):
        _ = 1 / 0
    assert not s3.objects


def test_of_many_at_once_one_gets_it(s3: FakeS3) -> None:
    def attempt(_: int) -> EnvironmentLock | None:
        lock = EnvironmentLock(target(s3), "deploy")
        try:
            lock.acquire()
        except CommandError:
            return None
        return lock

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [lock for lock in pool.map(attempt, range(8)) if lock is not None]
    assert len(winners) == 1
    winners[0].release()


def test_of_two_that_saw_the_same_one_writes(s3: FakeS3) -> None:
    first, second = EnvironmentLock(target(s3), "deploy"), EnvironmentLock(target(s3, "bob"), "deploy")
    assert first._write(None)
    assert not second._write(None)  # both had seen no lock
    seen = first._etag
    assert second._write(seen)
    assert not first._write(seen)  # both had seen the same old one


def held_elsewhere(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> EnvironmentLock:
    """A lock of another machine that does not renew it any more."""
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    lock = EnvironmentLock(target(s3), "deploy")
    lock.acquire()
    lock._done.set()
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    return lock


def test_a_holder_on_another_machine_counts_until_it_has_not_renewed(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = held_elsewhere(s3, monkeypatch)
    s3.now += HOLD_SECONDS - 1
    with pytest.raises(CommandError, match="elsewhere"):
        EnvironmentLock(target(s3, "bob"), "model").acquire()
    s3.now += 2
    with locked(target(s3, "bob"), "model"):
        gone.release()  # back again, it takes nothing from others
        with pytest.raises(CommandError, match="user/bob"):
            EnvironmentLock(target(s3), "deploy").acquire()


def test_a_holder_renews_while_it_works(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "RENEW_SECONDS", 0.02)
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    with locked(target(s3), "deploy"):
        first = s3.objects["evergreen/prod.lock"]["ETag"]
        s3.now += 10 * HOLD_SECONDS
        for _ in range(500):
            if s3.objects["evergreen/prod.lock"]["ETag"] != first:
                break
            lock_module.threading.Event().wait(0.01)  # type: ignore[attr-defined]
        monkeypatch.setattr(socket, "gethostname", lambda: "here")
        with pytest.raises(CommandError, match="elsewhere"):
            EnvironmentLock(target(s3, "bob"), "model").acquire()
    assert not s3.objects


@pytest.mark.parametrize("collected", [True, False])
def test_a_holder_that_was_killed_on_this_machine_is_replaced_at_once(
    collected: bool, s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen(["true"])
    # Killed together with its parent, a process may stay listed until init collects it.
    os.waitid(os.P_PID, ended.pid, os.WEXITED | (0 if collected else os.WNOWAIT))
    monkeypatch.setattr("os.getpid", lambda: ended.pid)
    killed = EnvironmentLock(target(s3), "deploy")
    killed.acquire()
    killed._done.set()
    monkeypatch.undo()
    monkeypatch.setattr(lock_module, "assets_bucket", lambda _: "bootstrap-bucket")
    with locked(target(s3, "bob"), "model"):
        pass
    ended.wait()
