"""Low-rank adapters within a parameter budget: choose the rank, attach, read, write and merge.

A thin layer over peft (Hu et al. 2021, LoRA). Knows models; knows nothing of data or jobs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PreTrainedModel

from .hyperparameters import Hyperparameters
from .job import TrainingError

_BLOCK = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")


@dataclass(frozen=True)
class AdapterPlan:
    """Which linear layers get adapters, at which rank, and how many parameters that trains."""

    targets: list[str]
    rank: int
    parameters: int


def plan_adapters(layers: dict[str, tuple[int, int]], blocks: int, settings: Hyperparameters) -> AdapterPlan:
    """The largest rank whose adapters fit the budget.

    `layers` maps a linear layer's name to its (inputs, outputs). One rank costs inputs + outputs
    parameters per layer. Raises TrainingError when even rank 1 does not fit.
    """
    first = blocks - max(1, round(blocks * settings.adapted_layers))
    targets = [name for name in layers if (found := _BLOCK.search(name)) and int(found[1]) >= first]
    if not targets:
        raise TrainingError("the base model has no linear layers inside numbered blocks to adapt")
    per_rank = sum(sum(layers[name]) for name in targets)
    rank = min(settings.max_rank, settings.parameter_budget // per_rank)
    if rank < 1:
        raise TrainingError(
            f"hyperparameter parameter_budget: {settings.parameter_budget} is too small, adapters of rank 1 "
            f"on {len(targets)} layers take {per_rank}; raise it or lower adapted_layers"
        )
    return AdapterPlan(targets, rank, rank * per_rank)


def attach(model: PreTrainedModel, settings: Hyperparameters) -> tuple[PeftModel, AdapterPlan]:
    """The model with fresh adapters (float32, the rest frozen) and the plan they follow."""
    layers = {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    plan = plan_adapters(layers, model.config.num_hidden_layers, settings)
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=plan.rank * settings.alpha_over_rank,
        lora_dropout=settings.dropout,
        target_modules=plan.targets,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config), plan


def adapter_state(model: PeftModel) -> dict[str, torch.Tensor]:
    """A copy of the adapters' weights."""
    return {name: value.detach().clone() for name, value in get_peft_model_state_dict(model).items()}


def load_adapter_state(model: PeftModel, state: dict[str, torch.Tensor]) -> None:
    """Put a copy made by `adapter_state` back."""
    set_peft_model_state_dict(model, state)


def merge(
    base: PreTrainedModel, settings: Hyperparameters, state: dict[str, torch.Tensor]
) -> PreTrainedModel:
    """The base with the adapters added into its weights, in the base's own precision.

    The sum is formed in float32: a small change added in bfloat16 would be rounded away.
    """
    stored = base.dtype
    adapted, _ = attach(base.float(), settings)
    load_adapter_state(adapted, state)
    return adapted.merge_and_unload().to(stored)
