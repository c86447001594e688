"""Packs a fine-tuned model as an artefact that the serving container loads like any other.

Weights are new; configuration, tokenizer and chat template are the base's own files, byte for byte.
Knows files and contracts, not training.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from transformers import PreTrainedModel

from contracts.artefact import MANIFEST_NAME, Manifest, describe
from contracts.training import TRAINING_CARD_FILE, TrainingCard
from model_code.vllm_hook.install import install

_KEPT = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "chat_template*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "LICENSE*",
)
"""Files of the base that hold no weights. A list of what is kept, not of what is left out: an engine's
own copy of the old weights must never travel with new ones."""


def _kept_files(base: Path) -> Iterator[Path]:
    for pattern in _KEPT:
        yield from sorted(path for path in base.glob(pattern) if path.is_file())


def pack(model: PreTrainedModel, base: Path, target: Path, name: str, card: TrainingCard) -> Manifest:
    """Write weights, the base's other files, card and hook, at last the manifest; returns the manifest."""
    target.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(target)
    for path in _kept_files(base):
        shutil.copyfile(path, target / path.name)
    (target / TRAINING_CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    install(
        target
    )  # which engine serves it is not known here, and AWS's vLLM image gets the hook from nowhere else
    manifest = describe(target, name)
    (target / MANIFEST_NAME).write_bytes(manifest.canonical())
    return manifest
