"""Low-rank adapters: attach them to a model, read and write their weights, merge them.

A thin layer over peft (Hu et al. 2021, LoRA). Knows models; knows nothing of data or jobs.
"""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PreTrainedModel

from model_code.training.hyperparameters import Hyperparameters
from model_code.training.schedule import AdapterPlan, plan_adapters


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
        lora_alpha=plan.rank * settings.alpha_over_rank,  # type: ignore[arg-type]  # a fraction will do
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
    merged: PreTrainedModel = adapted.merge_and_unload().to(stored)
    return merged
