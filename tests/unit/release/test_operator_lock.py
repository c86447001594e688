"""An operator who goes back to an earlier release holds the lock until it expires, without an execution."""

from __future__ import annotations

import pytest

from contracts.release_ledger import Lock
from contracts.release_tasks import ServedModel
from lambdas.release.errors import LockedError
from lambdas.release.store import LockTable
from tests.support.release_loop import ENDPOINT, OLD, ReleaseHarness


def held_by_an_operator(release: ReleaseHarness, seconds: float) -> None:
    now = release.clock()
    lock = Lock(
        release_id="back-1",
        execution_arn="",
        acquired_at=now,
        champion=ServedModel.model_validate(OLD),
        expires_at=now + seconds,
    )
    assert LockTable("ledger", ENDPOINT, release.tables).take(lock, instead_of=None)


def test_a_release_waits_for_an_operators_lock(release: ReleaseHarness) -> None:
    held_by_an_operator(release, seconds=3600)
    with pytest.raises(LockedError, match="back-1"):
        release.lock()


def test_a_release_takes_over_an_operators_lock_that_has_expired(release: ReleaseHarness) -> None:
    held_by_an_operator(release, seconds=3600)
    release.clock.sleep(3601)
    release.lock()
    assert release.story() == [("acquire_lock", "taken_over")]
