"""Makes a model artefact once and recognises it afterwards.

An artefact is built beside its final place and renamed into it, so a killed run leaves nothing that looks
finished; a lock keeps two runs from building at the same time.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.artefact import MANIFEST_NAME, ArtefactError, Manifest, describe, verify
from local.model import embedding, source
from local.model.progress import say

NAME = "smollm2-135m-instruct"
TINY_NAME = "tiny-llama-random"
EMBEDDING_NAME = "all-minilm-l6-v2"
TINY_EMBEDDING_NAME = "tiny-bert-random"
RECIPE = 2
"""Raise it when the conversion's result changes: artefacts of an older recipe are made anew."""
_PROVENANCE = "provenance.json"
_BUILDING = ".building-"


class Prepared(BaseModel):
    """What the command prints: the artefact's name, its manifest's digest, and its absolute folder."""

    model_config = ConfigDict(frozen=True)

    name: str
    digest: str
    folder: str


def prepare(home: Path, *, name: str = NAME, full: bool = False) -> Prepared:
    """The artefact under `home/models/<name>`, built when missing, damaged or of an older recipe.

    An existing one is checked by its files' sizes, with `full` by their content. Raises source.SourceError.
    """
    models = home.resolve() / "models"
    models.mkdir(parents=True, exist_ok=True)
    with _lock(models / ".lock"):
        folder = models / name
        manifest = _existing(folder, name, full)
        if manifest is None:
            manifest = _build(models, folder, name)
    return Prepared(name=name, digest=manifest.digest, folder=str(folder))


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # released by the kernel even when this process is killed
        yield


def _provenance(name: str) -> dict[str, Any]:
    origin = (source.REQUIREMENT, source.GGUF_SHA256)
    if name in (EMBEDDING_NAME, TINY_EMBEDDING_NAME):
        origin = (embedding.REQUIREMENT, embedding.WEIGHTS_SHA256)
    return {"name": name, "recipe": RECIPE, "source": origin[0], "source_sha256": origin[1]}


def _existing(folder: Path, name: str, full: bool) -> Manifest | None:
    if not folder.exists():
        return None
    try:
        manifest = verify(folder, None) if full else _verify_sizes(folder)
    except (ArtefactError, ValidationError, OSError) as error:
        say(f"{folder.name} is damaged and is made anew: {error}")
        return None
    if json.loads((folder / _PROVENANCE).read_text()) != _provenance(name):
        say(f"{folder.name} was made by another recipe and is made anew")
        return None
    return manifest


def _verify_sizes(folder: Path) -> Manifest:
    manifest = Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    for entry in manifest.files:
        if (folder / entry.path).stat().st_size != entry.bytes:
            raise ArtefactError(f"{entry.path} has another size than its manifest says")
    return manifest


def _build(models: Path, folder: Path, name: str) -> Manifest:
    for left_over in models.glob(
        f"{_BUILDING}*"
    ):  # of a killed run: we hold the lock, so nobody writes there
        shutil.rmtree(left_over)
    building = models / f"{_BUILDING}{name}"
    building.mkdir()
    if name in (EMBEDDING_NAME, TINY_EMBEDDING_NAME):
        embedding.copy_files(building)
        if name == TINY_EMBEDDING_NAME:
            embedding.make_tiny(building)
        _write_json(building / _PROVENANCE, _provenance(name))
    else:
        _write_files(building, source.fetch_gguf(models / "download"), name, name == TINY_NAME)
    say(f"hashing {name}")
    manifest = describe(building, name)
    (building / MANIFEST_NAME).write_bytes(manifest.canonical())
    if folder.exists():
        shutil.rmtree(folder)
    building.rename(folder)
    return manifest


def _write_files(folder: Path, gguf_file: Path, name: str, tiny: bool) -> None:
    # torch and numpy take seconds to import: a run that finds everything in place does without them.
    from local.model import llama, tokenizer

    model = llama.GgufModel(gguf_file)
    config = llama.tiny_config(model.config()) if tiny else model.config()
    weights = llama.tiny_weights(config) if tiny else model.weights()
    llama.save_weights(weights, folder / "model.safetensors")
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", tokenizer.generation_config(config))
    _write_json(folder / "tokenizer.json", tokenizer.tokenizer_json(model))
    _write_json(
        folder / "tokenizer_config.json", tokenizer.tokenizer_config(model, config["max_position_embeddings"])
    )
    _write_json(folder / _PROVENANCE, _provenance(name))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
