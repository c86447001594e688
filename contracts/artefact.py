"""A model artefact: a folder of files under an S3 prefix, described by its `manifest.json`.

The digest of the manifest names the artefact: equal digests mean equal bytes. Whoever loads an artefact
verifies every file against the manifest and the manifest against the expected digest. A file that the
manifest does not name is refused: libraries look for files by name (a chat template, an index of shards, a
converted graph) and would prefer one that was put beside the others.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from contracts.quantisation import QUANTISATION_FILE

MANIFEST_NAME = "manifest.json"
_UNLISTED = (MANIFEST_NAME, QUANTISATION_FILE)
"""Files at an artefact's root that its manifest does not name: nothing that loads a model reads them."""
_CHUNK_BYTES = 1 << 20


class ArtefactError(Exception):
    """A file of an artefact is missing or differs from its manifest; the message names the file."""


class ArtefactFile(BaseModel):
    """One file: path relative to the artefact's root with forward slashes, size in bytes, SHA-256 in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """The list of an artefact's files, sorted by path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    files: list[ArtefactFile]

    def canonical(self) -> bytes:
        """The bytes that are stored as `manifest.json` and that the digest covers."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of `canonical()`."""
        return hashlib.sha256(self.canonical()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hex, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def describe(folder: Path, name: str) -> Manifest:
    """The manifest of a folder's files as they are now; a manifest already there is left out."""
    files = [
        ArtefactFile(path=path, bytes=(folder / path).stat().st_size, sha256=file_sha256(folder / path))
        for path in _paths(folder)
    ]
    return Manifest(name=name, files=files)


def verify(folder: Path, expected_digest: str | None) -> Manifest:
    """Check a folder against its own manifest, and the manifest against the expected digest when given.

    Raises ArtefactError naming the first file that the manifest does not name, or that is missing, of another
    size or of another content.
    """
    stored = folder / MANIFEST_NAME
    if not stored.is_file():
        raise ArtefactError(f"{MANIFEST_NAME} is missing from the model artefact")
    manifest = Manifest.model_validate_json(stored.read_bytes())
    if expected_digest and manifest.digest != expected_digest:
        raise ArtefactError(f"the artefact's digest is {manifest.digest}, expected {expected_digest}")
    listed = {entry.path for entry in manifest.files}
    if unlisted := [path for path in _paths(folder) if path not in listed]:
        raise ArtefactError(
            f"{unlisted[0]} is not named by the artefact's manifest: take it out of the folder"
        )
    for entry in manifest.files:
        path = folder / entry.path
        if not path.is_file():
            raise ArtefactError(f"{entry.path} is missing from the model artefact")
        if path.stat().st_size != entry.bytes or file_sha256(path) != entry.sha256:
            raise ArtefactError(f"{entry.path} differs from its manifest: the file is corrupt or was changed")
    return manifest


def _paths(folder: Path) -> list[str]:
    """What a manifest has to name, sorted: all files of a folder but those at its root that nothing loads."""
    files = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    paths = [path.relative_to(folder).as_posix() for path in files]
    return [path for path in paths if path not in _UNLISTED]
