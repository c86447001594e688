"""An artefact as one archive, for serverless endpoints: the same files again, byte by byte the same."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from contracts.artefact import MANIFEST_NAME, ArtefactError, describe, file_sha256, verify
from operations.artefacts import _packed
from tests.support.tiny_safetensors import write_model


def test_the_archive_holds_the_artefact_and_is_the_same_each_time(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source")
    folder = tmp_path / "staged"
    (folder / "code").mkdir(parents=True)
    for path in source.iterdir():
        (folder / path.name).symlink_to(path)  # as models are laid out
    (folder / "code" / "hook.py").write_text("x = 1")
    manifest = describe(folder, "m")
    (folder / MANIFEST_NAME).write_bytes(manifest.canonical())
    [(archive, entry)] = _packed(folder, manifest)
    first = archive.read_bytes()
    assert (entry.path, entry.bytes, entry.sha256) == ("model.tar.gz", len(first), file_sha256(archive))
    with tarfile.open(archive) as files:
        files.extractall(tmp_path / "there", filter="data")
    assert verify(tmp_path / "there", manifest.digest) == manifest
    os.utime(source / "config.json", (0, 0))
    [(archive, _)] = _packed(folder, manifest)
    assert archive.read_bytes() == first


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    manifest = describe(folder, "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtefactError, match=r"model\.safetensors is missing"):
        list(_packed(folder, manifest))
