"""Saves the cloud's state when its operator changed something, and restores it at the next start.

It saves the changes of operators and deployments, once none follows for two seconds and no stack operation
runs. What functions write in between (rows, metrics, logs) is in the next snapshot, at the latest the one of
a clean stop. After a kill the cloud comes back as of its last snapshot.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import sys
import time
from collections.abc import Mapping

from local.cloud import ministack_adapter
from local.cloud.config import CloudConfig
from local.cloud.snapshots import snapshots_of

_QUIET_SECONDS = 2.0
_LOOK_EVERY_SECONDS = 1.0
_ATTEMPTS = 5
_ATTEMPT_SECONDS = 0.2
_log = logging.getLogger("evergreen.cloud")


def restore(config: CloudConfig, parts: Mapping[str, str]) -> None:
    """Put the state back, after every plug-in registered. If a part refuses it, the process starts over
    without it: a cloud with half its state would mislead."""
    try:
        ministack_adapter.import_state(parts)
    except Exception:  # noqa: BLE001 - a part raises what it likes for a state that it cannot read
        _log.exception("the saved state could not be restored; starting fresh")
        snapshots_of(config).reject()
        os.execv(sys.executable, [sys.executable, "-m", "local.cloud", *sys.argv[1:]])  # noqa: S606


def register(config: CloudConfig) -> None:
    """Save from now on."""
    writer = _SnapshotWriter(config)
    ministack_adapter.on_operator_change(writer.changed)
    ministack_adapter.on_startup(writer.start)
    ministack_adapter.on_shutdown(writer.stop)


class _SnapshotWriter:
    def __init__(self, config: CloudConfig) -> None:
        self._snapshots = snapshots_of(config)
        self._changed_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """Somebody changed something."""
        self._changed_at = time.monotonic()

    async def start(self) -> None:
        """Watch for quiet moments."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """The last snapshot, of everything."""
        if self._task:
            self._task.cancel()
        if ministack_adapter.stack_operation_in_progress():
            _log.warning("stopped in the middle of a deployment: the state before it stays in force")
            return
        self._snapshots.save(await _exported())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            if self._changed_at is None or time.monotonic() - self._changed_at < _QUIET_SECONDS:
                continue
            if ministack_adapter.stack_operation_in_progress():
                continue
            self._changed_at = None
            try:
                parts = await _exported()
                await asyncio.to_thread(self._snapshots.save, parts)
                del parts
                await asyncio.to_thread(_return_free_memory)
            except (RuntimeError, OSError):
                # Such as a full disk: try at the next quiet moment. The former snapshot stays in force.
                _log.warning("the state could not be saved this time", exc_info=True)
                self._changed_at = time.monotonic()


def _return_free_memory() -> None:
    """A snapshot is a copy of everything. Give its memory back to the system, where the C library can."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


async def _exported() -> dict[str, str]:
    """The state. A worker thread may change a table meanwhile: then it is tried again, a few times."""
    for _attempt in range(_ATTEMPTS - 1):
        try:
            return ministack_adapter.export_state()
        except RuntimeError:
            await asyncio.sleep(_ATTEMPT_SECONDS)
    return ministack_adapter.export_state()
