"""What a model can do, judged by its artefact's configuration files alone. Cheap: imports no engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from contracts import container

ModelTask = Literal["generation", "embedding", "classification", "reranking"]

ROUTES: dict[ModelTask, tuple[str, ...]] = {
    "generation": (container.ROUTE_CHAT, container.ROUTE_COMPLETIONS),
    "embedding": (container.ROUTE_EMBEDDINGS, container.ROUTE_RERANK, container.ROUTE_SCORE),
    "classification": (container.ROUTE_CLASSIFY,),
    "reranking": (container.ROUTE_RERANK, container.ROUTE_SCORE, container.ROUTE_CLASSIFY),
}
"""The operations that a container with a model of each task answers; the first is what no route means."""
MODULES = "modules.json"
"""The file by which sentence-transformers says what follows the model: its presence means embeddings."""
_ENDINGS: tuple[tuple[str, ModelTask], ...] = (
    ("ForCausalLM", "generation"),
    ("LMHeadModel", "generation"),
    ("ForConditionalGeneration", "generation"),
    ("ForSequenceClassification", "classification"),
    ("ForMaskedLM", "embedding"),
    ("Model", "embedding"),  # a bare encoder
)


class UnsupportedArchitectureError(Exception):
    """A model whose architecture nothing here serves; the message names its architecture."""


def task_of(folder: Path) -> ModelTask:
    """The task of the model in a folder.

    Raises UnsupportedArchitectureError, OSError, ValueError (no JSON).
    """
    if (folder / MODULES).is_file():
        return "embedding"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architectures = config.get("architectures")
    if not architectures:  # files written by hand; text generation is what this server is for
        return "generation"
    for ending, task in _ENDINGS:
        if str(architectures[0]).endswith(ending):
            return "reranking" if task == "classification" and _labels(config) == 1 else task
    known = ", ".join(f"…{ending}" for ending, _ in _ENDINGS)
    raise UnsupportedArchitectureError(
        f"config.json names the architecture {architectures[0]}; served are {known}"
    )


def _labels(config: dict[str, Any]) -> int:
    """How many labels a classifier has; one makes it a cross-encoder, which scores pairs of texts."""
    named = config.get("id2label")
    return len(named) if isinstance(named, dict) else int(config.get("num_labels", 2))
