"""Adapters over one shared base model: each request of a running batch is computed under its own.

Continuous batching lays the tokens of all requests in one row. Before each forward pass the batch loop says
which stretch belongs to which adapter; hooks on the linear layers add each stretch's low-rank update. (peft's
own mixed batches go by rows, of which there is only one here.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.logits_process import LogitsProcessorList

from model_code.serving.engines.errors import IncompatibleAdapterError
from model_code.serving.engines.lora import Adapter

TokenSpan = tuple[str, int, int]
"""An adapter's key and the tokens, from first to last plus one, that it applies to."""


class LoraLayers:
    """The adapters of one model. `add` and `remove` may be called while another thread computes."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._device = next(model.parameters()).device
        self._spans: list[TokenSpan] = []
        # Hooks are placed once, before anything computes: a model must not change under a forward pass.
        self._updates: dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]] = {}
        # The head is computed for some tokens of the row alone: spans mean nothing there.
        head = model.get_output_embeddings()
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and module is not head:
                module.register_forward_hook(self._hook(self._updates.setdefault(name, {})))

    def add(self, adapter: Adapter) -> None:
        """Make an adapter usable. Raises IncompatibleAdapterError: an update of a layer without hook."""
        if missing := adapter.layers.keys() - self._updates.keys():
            raise IncompatibleAdapterError(f"this engine adapts no layer {min(missing)}")
        for name, layer in adapter.layers.items():
            down = torch.from_numpy(layer.down).to(self._device)
            up = torch.from_numpy(layer.up * layer.scale).to(self._device)
            self._updates[name][adapter.key] = (down, up)

    def remove(self, key: str) -> None:
        """Forget an adapter; a key without one is none either."""
        for updates in self._updates.values():
            updates.pop(key, None)

    def route(self, spans: list[TokenSpan]) -> None:
        """Say whose tokens the coming forward pass computes; what no stretch covers is the base's."""
        self._spans = spans

    def _hook(
        self, updates: dict[str, tuple[torch.Tensor, torch.Tensor]]
    ) -> Callable[[nn.Module, tuple[Any, ...], torch.Tensor], torch.Tensor | None]:
        """A forward hook of one linear layer, which adds each span's update to the output in place.

        `updates` maps an adapter's key to down [rank, inputs] and up [outputs, rank], with the scale in it.
        The layer's input is [1, tokens of all requests, inputs], its output [1, tokens, outputs].
        """

        def add_updates(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
            for key, first, last in self._spans:
                if (update := updates.get(key)) is not None:
                    down, up = update
                    # As peft does: in the adapter's float32, then back to what the model computes in.
                    state = inputs[0][..., first:last, :].to(down.dtype)
                    change = nn.functional.linear(nn.functional.linear(state, down), up)
                    output[..., first:last, :] += change.to(output.dtype)

        return add_updates


class RoutingProcessors(ContinuousBatchingLogitsProcessorList):
    """transformers' list of logits processors, which hears of every batch before it is computed."""

    def __init__(
        self,
        processors: LogitsProcessorList,
        layers: LoraLayers,
        adapter_of: Callable[[Any], str | None],
    ) -> None:
        super().__init__(processors)
        self._layers = layers
        self._adapter_of = adapter_of

    def prepare_tensor_args(self, requests_in_batch: list[Any], arg_storage: torch.Tensor) -> torch.Tensor:
        """Note where each request's tokens lie in the batch's row."""
        spans: list[TokenSpan] = []
        position = 0
        for request in requests_in_batch:
            if (key := self._adapter_of(request.state)) is not None:
                spans.append((key, position, position + request.query_length))
            position += request.query_length
        self._layers.route(spans)
        return super().prepare_tensor_args(requests_in_batch, arg_storage)
