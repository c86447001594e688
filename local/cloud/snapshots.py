"""The cloud's state on disk: whole snapshots or nothing, so that a start never finds half a state.

A snapshot is a folder of JSON files, one per part, with a manifest of their digests; `current` names the one
in force and is replaced in one step. Knows nothing of what the parts mean. Objects in S3 are written through
by the emulator and lie beside the snapshots: starting fresh removes both.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from local.cloud.config import CloudConfig

_FORMAT = 1


class NoSnapshotError(Exception):
    """There is nothing to restore; the message says why."""


@dataclass(frozen=True)
class Snapshots:
    """The snapshots below `folder`, made by one version of the emulator."""

    folder: Path
    version: str

    def save(self, parts: Mapping[str, str]) -> None:
        """Write a snapshot and put it in force; the former one is then removed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max((int(path.name) for path in self._generations()), default=0) + 1
        target = self.folder / str(number)
        target.mkdir()
        for name, text in parts.items():
            _write(target / f"{name}.json", text)
        manifest = {
            "format": _FORMAT,
            "version": self.version,
            "parts": {name: _digest(text) for name, text in parts.items()},
        }
        _write(target / "manifest.json", json.dumps(manifest))
        scratch = self.folder / "current.new"
        _write(scratch, str(number))
        scratch.replace(self.folder / "current")
        for path in self._generations():
            if path != target:
                shutil.rmtree(path)

    def load(self) -> dict[str, str]:
        """The parts of the snapshot in force. Raises NoSnapshotError when it is missing, damaged or made by
        another version."""
        try:
            source = self.folder / (self.folder / "current").read_text()
        except OSError:
            raise NoSnapshotError("no saved state") from None
        try:
            manifest = json.loads((source / "manifest.json").read_text())
            written_by = manifest["format"], manifest["version"]
            if written_by != (_FORMAT, self.version):
                raise NoSnapshotError(f"the saved state was made by another version ({manifest['version']})")
            parts = {name: (source / f"{name}.json").read_text() for name in manifest["parts"]}
        except (OSError, ValueError, KeyError) as error:
            raise NoSnapshotError(f"the saved state cannot be read: {error}") from None
        damaged = [name for name, text in parts.items() if _digest(text) != manifest["parts"][name]]
        if damaged:
            raise NoSnapshotError(f"the saved state is damaged: {', '.join(damaged)}")
        return parts

    def reject(self) -> None:
        """Forget the snapshot in force: it could not be restored."""
        (self.folder / "current").unlink(missing_ok=True)

    def _generations(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.is_dir() and path.name.isdigit()]


@dataclass(frozen=True)
class RestorePoint:
    """Where a start begins: `parts` to restore, or None and the reason why it starts fresh."""

    parts: Mapping[str, str] | None
    reason: str


def snapshots_of(config: CloudConfig) -> Snapshots:
    """The snapshots of one cloud."""
    return Snapshots(config.folder / "state", f"ministack {version('ministack')}")


def load_or_reset(config: CloudConfig) -> RestorePoint:
    """Decide what a start begins with, before the emulator is imported: it reads its object files then. A
    fresh start removes what an earlier run left behind."""
    try:
        return RestorePoint(snapshots_of(config).load(), "")
    except NoSnapshotError as reason:
        for name in ("s3", "blobs", "state"):
            shutil.rmtree(config.folder / name, ignore_errors=True)
        return RestorePoint(None, str(reason))


def _write(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
