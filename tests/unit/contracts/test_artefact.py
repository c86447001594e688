"""An artefact is the files that its manifest names: fewer, other or more are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.artefact import MANIFEST_NAME, ArtefactError, describe, verify
from contracts.quantisation import QUANTISATION_FILE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A described artefact with a file in a folder below."""
    for name in ("config.json", "model.safetensors", "code/hook.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"content of {name}")
    (tmp_path / MANIFEST_NAME).write_bytes(describe(tmp_path, "m").canonical())
    return tmp_path


def test_what_was_described_is_verified(folder: Path) -> None:
    manifest = verify(folder, describe(folder, "m").digest)
    assert [entry.path for entry in manifest.files] == ["code/hook.py", "config.json", "model.safetensors"]


@pytest.mark.parametrize(
    "name",
    [
        *("chat_template.jinja", "model.safetensors.index.json", "openvino/openvino_model.xml"),
        *("tokenizer.model", ".hidden", "code/__pycache__/hook.cpython-312.pyc"),
        *(f"code/{MANIFEST_NAME}", f"code/{QUANTISATION_FILE}"),
    ],
)
def test_a_file_that_the_manifest_does_not_name_is_refused(folder: Path, name: str) -> None:
    digest = describe(folder, "m").digest
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}")
    with pytest.raises(ArtefactError, match=f"^{name} is not named"):
        verify(folder, digest)


def test_a_link_to_nowhere_is_a_file_too(folder: Path) -> None:
    (folder / "chat_template.jinja").symlink_to("/nowhere")
    with pytest.raises(ArtefactError, match=r"^chat_template\.jinja is not named"):
        verify(folder, None)


def test_a_folder_under_a_second_name_is_refused(folder: Path) -> None:
    digest = describe(folder, "m").digest
    (folder / "openvino").symlink_to(folder / "code")
    with pytest.raises(ArtefactError, match=r"^openvino is not named"):
        verify(folder, digest)


def test_what_was_measured_of_it_may_lie_beside(folder: Path) -> None:
    digest = describe(folder, "m").digest
    (folder / QUANTISATION_FILE).write_text("{}")
    assert verify(folder, digest).digest == digest == describe(folder, "m").digest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "config.json is missing"),
        (lambda path: path.write_text("content of CONFIG.json"), "config.json differs"),
        (lambda path: path.write_text(""), "config.json differs"),
    ],
)
def test_a_file_that_is_missing_or_another_is_refused(folder: Path, change: object, words: str) -> None:
    assert callable(change)
    change(folder / "config.json")
    with pytest.raises(ArtefactError, match=words):
        verify(folder, None)


def test_another_artefact_than_expected_is_refused(folder: Path) -> None:
    with pytest.raises(ArtefactError, match="expected 0000"):
        verify(folder, "0000")
