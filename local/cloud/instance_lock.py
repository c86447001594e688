"""One cloud per home folder: the lock, the pid file, and the clearing up after a run that was killed."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from local.cloud.config import CloudConfig
from local.cloud.process_table import started_at


class AlreadyRunningError(Exception):
    """Another cloud owns this home folder; the message says which."""


@dataclass
class InstanceLock:
    """The claim of one process on a home folder.

    The lock on `cloud.lock` is the claim: the kernel drops it when its holder dies, however it dies.
    `cloud.pid` holds `{"pid", "started_at", "port"}` for whoever wants to stop the holder.
    """

    config: CloudConfig
    _lock: IO[str] | None = field(default=None, repr=False)

    def claim(self) -> list[str]:
        """Take the folder, or raise AlreadyRunningError. Ends the children of a run that was killed and
        returns their purposes."""
        self.config.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.config.folder / "cloud.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(
                f"A laptop cloud already runs for {self.config.home}{self._whose()}."
            ) from None
        own = {"pid": os.getpid(), "started_at": started_at(os.getpid()), "port": self.config.port}
        self._pid_file.write_text(json.dumps(own))
        return self.config.processes.end_all()

    def release(self) -> None:
        """Give the folder back; whatever child still runs is ended."""
        self.config.processes.end_all()
        self._pid_file.unlink(missing_ok=True)
        if self._lock:
            self._lock.close()

    def _whose(self) -> str:
        try:
            owner = json.loads(self._pid_file.read_text())
        except (OSError, ValueError):
            return ""
        return f" (process {owner['pid']}, port {owner['port']})"

    @property
    def _pid_file(self) -> Path:
        return self.config.folder / "cloud.pid"
