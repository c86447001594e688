"""One release at a time: who holds an endpoint's lock, when it may be taken over, and who may still act."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from contracts.release_ledger import Lock
from contracts.release_tasks import ServedModel
from lambdas.release.errors import LockedError, LockLostError
from lambdas.release.store import LockTable


class Executions(Protocol):
    """What runs."""

    def is_running(self, execution_arn: str) -> bool:
        """Whether this execution may still do something."""


class ReleaseLocks:
    """The lock of one endpoint."""

    def __init__(
        self, table: LockTable, executions: Executions, clock: Callable[[], float] = time.time
    ) -> None:
        self._table = table
        self._executions = executions
        self._clock = clock

    def acquire(
        self, release_id: str, execution_arn: str, champion: Callable[[], ServedModel]
    ) -> tuple[Lock, Lock | None]:
        """The lock that is now ours, and the dead one it was taken over from. Raises LockedError.

        `champion` is asked only once nobody is in the way. Acquiring again returns the lock as it was first
        taken, with the champion of that moment.
        """
        held = self._table.read()
        if held is not None and (held.release_id, held.execution_arn) == (release_id, execution_arn):
            return held, None
        if held is not None and self._is_held(held):
            raise LockedError(f"The release {held.release_id} is running on this endpoint.")
        lock = Lock(
            release_id=release_id,
            execution_arn=execution_arn,
            acquired_at=round(self._clock(), 3),
            champion=champion(),
        )
        if not self._table.take(lock, instead_of=held):
            raise LockedError("Another release took the lock at the same moment.")
        return lock, held

    def _is_held(self, lock: Lock) -> bool:
        """Whether who took the lock may still act: an operator until it expires, a release while it runs."""
        if lock.expires_at is not None:
            return self._clock() < lock.expires_at
        return self._executions.is_running(lock.execution_arn)

    def mine(self, release_id: str) -> Lock | None:
        """The lock, where this release holds it."""
        held = self._table.read()
        return held if held is not None and held.release_id == release_id else None

    def require(self, release_id: str) -> Lock:
        """The lock. Raises LockLostError if another release holds it: one revived late must do no harm."""
        lock = self.mine(release_id)
        if lock is None:
            raise LockLostError(f"The release {release_id} does not hold the endpoint's lock any more.")
        return lock

    def release(self, release_id: str) -> bool:
        """Free the lock if it is this release's; False where it is not."""
        return self._table.drop(release_id)
