"""Log probabilities of a prompt's own tokens for the transformers engine.

Continuous batching gives the modules an attention of its own, which reads a paged cache. So the prompt is
computed by modules of another kind over the same weights: a copy of the model that shares every tensor.
"""

from __future__ import annotations

import copy
import itertools
import threading
from typing import Any

import torch
from transformers import DynamicCache

from model_code.serving.engines.base import Logprob

CHUNK_TOKENS = 128
"""Tokens computed at once: their logits over the whole vocabulary are held in single precision."""


class SharedScorer:
    """Made before the engine changes the model's attention; holds no weights of its own."""

    def __init__(self, model: Any) -> None:
        tensors = itertools.chain(model.parameters(), model.buffers())
        self._model = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
        self._computing = threading.Lock()

    def score(self, prompt: list[int], top: int) -> list[Logprob]:
        """One entry for each token but the first. One prompt at a time."""
        found: list[Logprob] = []
        with self._computing, torch.inference_mode():
            cache = DynamicCache()
            tokens = torch.tensor([prompt], device=self._model.device)
            for start in range(0, len(prompt) - 1, CHUNK_TOKENS):
                end = min(start + CHUNK_TOKENS, len(prompt) - 1)
                output = self._model(tokens[:, start:end], past_key_values=cache, use_cache=True)
                values = torch.log_softmax(output.logits[0].float(), dim=-1)
                own = values.gather(1, tokens[0, start + 1 : end + 1].unsqueeze(1)).squeeze(1).tolist()
                best, likeliest = values.topk(top) if top else (values[:, :0], values[:, :0].long())
                rows = zip(own, likeliest.tolist(), best.tolist(), strict=True)
                found += [Logprob(value, list(zip(ids, each, strict=True))) for value, ids, each in rows]
        return found
