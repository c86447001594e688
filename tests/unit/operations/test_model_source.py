"""What of a model folder goes into an artefact: data, never anything that runs when it is read."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from operations.model_source import fetch, lay_out
from operations.progress import CommandError, Step
from tests.support.tiny_safetensors import write_model, write_safetensors


def step(tmp_path: Path) -> Step:
    return Step("model files", tmp_path / "log")


def found(source: Path | str, tmp_path: Path) -> Path:
    target: Any = None  # S3 alone needs one
    return fetch(str(source), target, tmp_path / "work", step(tmp_path))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_files_are_linked_and_the_source_stays_as_it_is(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    (source / ".git").mkdir()
    (source / ".git" / "config").write_text("x")
    (source / "manifest.json").write_text("{}")  # of another artefact
    before = names(source)
    layout = lay_out(source, tmp_path / "staged")
    assert names(layout.folder) == {"config.json", "README.md", "model.safetensors"}
    assert names(source) == before


def test_pickles_code_and_other_copies_are_left_out_whatever_they_are_called(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    (source / "innocent.json").write_bytes(pickle.dumps({"a": 1}))
    with zipfile.ZipFile(source / "pytorch_model.bin", "w") as torch_file:
        torch_file.writestr("archive/data.pkl", pickle.dumps([1]))
    (source / "modeling_own.py").write_text("print('hello')")
    (source / "tf_model.h5").write_bytes(b"\x89HDF")
    write_safetensors(source / "consolidated.safetensors", {"a": 1})
    layout = lay_out(source, tmp_path / "staged")
    assert set(layout.left_out) == {
        "innocent.json", "pytorch_model.bin", "modeling_own.py", "tf_model.h5", "consolidated.safetensors",
    }  # fmt: skip
    assert not names(layout.folder) & set(layout.left_out)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_weights_that_are_only_pickled_are_refused(tmp_path: Path, protocol: int) -> None:
    source = write_model(tmp_path / "model")
    (source / "model.safetensors").write_bytes(pickle.dumps({"w": [0.5]}, protocol=protocol))
    with pytest.raises(CommandError, match=r"pickles.*safetensors"):
        lay_out(source, tmp_path / "staged")


def test_a_header_whose_length_looks_like_a_pickle_is_none(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    assert any(_header(source, padding)[:2] == b"\x80\x02" for padding in range(700))
    assert not lay_out(source, tmp_path / "staged").left_out


def _header(source: Path, padding: int) -> bytes:
    """The first bytes of weights whose header is padded; 0x0280 bytes are what a pickle begins with."""
    write_safetensors(source / "model.safetensors", {"n" * padding: 1})
    return (source / "model.safetensors").read_bytes()


def test_a_hubs_cache_folder_is_its_snapshot(tmp_path: Path) -> None:
    cache = tmp_path / "models--org--name"
    write_model(cache / "snapshots" / "old")
    write_model(cache / "snapshots" / "new")
    with pytest.raises(CommandError, match="2 snapshots"):
        found(cache, tmp_path)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("new")
    assert found(cache, tmp_path).name == "new"


def test_an_archive_is_unpacked_and_one_that_leads_out_is_refused(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(source, "model")
    assert (found(tmp_path / "model.tar.gz", tmp_path) / "config.json").is_file()
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("../outside")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(CommandError, match="cannot be unpacked"):
        found(tmp_path / "evil.tar.gz", tmp_path)
    assert not (tmp_path / "work" / "outside").exists()


def test_a_cut_archive_is_one_sentence(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(source, "model")
    whole = (tmp_path / "model.tar.gz").read_bytes()
    (tmp_path / "model.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CommandError, match="cannot be unpacked"):
        found(tmp_path / "model.tar.gz", tmp_path)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("https://hub.example/org/model", "download the model first"),
        ("nowhere", "does not exist"),
        ("empty", "no config.json"),
        ("adapter", "is an adapter"),
    ],
)
def test_what_is_no_model_is_said_with_what_to_do(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(CommandError, match=words):
        found(source if "://" in source else tmp_path / source, tmp_path)
