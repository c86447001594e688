"""The engine for embeddings and sequence classification: one padded forward pass per batch, in torch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from model_code.serving.engines.base import EngineLimits
from model_code.serving.engines.encoder import Normalisation, Numbers, Tokens
from model_code.serving.engines.errors import EngineError
from model_code.serving.engines.pooling import Pooling, pool, read_pooling
from model_code.serving.model_tasks import ModelTask

_ACTIVATIONS: dict[str, Normalisation] = {"Identity": "none", "Sigmoid": "sigmoid"}


class TransformersEncoder:
    """Implements `encoder.Encoder`."""

    name = "transformers"

    def __init__(self, limits: EngineLimits, task: ModelTask) -> None:
        self._limits = limits
        self._task = task
        self._pooling = Pooling()
        self._model: Any = None
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._context = 0
        self._padding: int | None = None
        self._token_types = 0
        self.labels: tuple[str, ...] = ()
        self.normalisation: Normalisation = "none"

    @property
    def context_tokens(self) -> int:
        """See `encoder.Encoder`."""
        return self._context

    @property
    def pads(self) -> bool:
        """See `encoder.Encoder`."""
        return self._padding is not None

    def load(self, folder: Path) -> None:
        """See `encoder.Encoder`."""
        transformers_logging.disable_progress_bar()
        torch.set_num_threads(self._limits.threads)
        classifies = self._task != "embedding"
        self._pooling = Pooling() if classifies else read_pooling(folder)
        loader = AutoModelForSequenceClassification if classifies else AutoModel
        # float32: these models are small, and whoever compares vectors must get the ones it got yesterday.
        model = loader.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
        self._model, loading = model[0].to(self._device).eval(), model[1]
        # A pooler of the model's own has no part in sentence-transformers' pooling.
        vital = [name for name in loading["missing_keys"] if classifies or "pooler" not in name]
        if missing := sorted(vital):
            raise EngineError(f"the weights lack {missing[0]}")
        config = self._model.config
        bounds = (_longest(config), self._pooling.longest, self._limits.max_context)
        self._context = min(bound for bound in bounds if bound)
        # A classifier finds a text's end by its padding token; a pooled encoder has the mask for that.
        self._padding = config.pad_token_id if classifies else (config.pad_token_id or 0)
        if classifies:
            self.labels = tuple(config.id2label[index] for index in range(config.num_labels))
            self.normalisation = _normalisation(config)
        takes_types = "token_type_ids" in inspect.signature(self._model.forward).parameters
        self._token_types = getattr(config, "type_vocab_size", 0) if takes_types else 0

    @torch.inference_mode()
    def encode(self, texts: Sequence[Tokens]) -> Numbers:
        """See `encoder.Encoder`."""
        longest = max(map(len, texts))
        tokens = self._padded([text.ids for text in texts], longest, self._padding or 0)
        mask = self._padded([[1] * len(text) for text in texts], longest, 0)
        more = {}
        if self._token_types > 1:  # models of one type, or of none, tell texts apart by what is between them
            types = [text.type_ids or [0] * len(text) for text in texts]
            more["token_type_ids"] = self._padded(types, longest, 0)
        output = self._model(input_ids=tokens, attention_mask=mask, **more)
        if self._task != "embedding":
            rows = output.logits
        else:
            rows = pool(self._pooling, output.last_hidden_state, mask)
        numbers: Numbers = rows.float().cpu().numpy()
        return numbers

    def _padded(self, rows: Sequence[Sequence[int]], width: int, padding: int) -> torch.Tensor:
        """Rows of different lengths as [rows, width], filled on the right."""
        filled = [[*row, *[padding] * (width - len(row))] for row in rows]
        return torch.tensor(filled, device=self._device)

    def close(self) -> None:
        """See `encoder.Encoder`."""
        self._model = None


def _longest(config: Any) -> int:
    positions = int(getattr(config, "max_position_embeddings", 0) or 0)
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):  # their positions begin after padding
        return positions - (config.pad_token_id or 0) - 1
    return positions or 512


def _normalisation(config: Any) -> Normalisation:
    """As sentence-transformers' cross-encoders say it, else as Hugging Face's pipeline decides it.

    Raises EngineError for an activation that is neither a sigmoid nor none.
    """
    own = (getattr(config, "sentence_transformers", None) or {}).get("activation_fn")
    named = own or getattr(config, "sbert_ce_default_activation_function", None)
    if named is not None and config.num_labels == 1:
        if (activation := _ACTIVATIONS.get(str(named).rpartition(".")[2])) is None:
            raise EngineError(f"config.json asks for the activation {named}, which is not served")
        return activation
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    return "softmax"
