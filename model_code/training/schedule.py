"""The arithmetic of a fine-tune: a step's learning rate and a budget's LoRA rank. Pure, without torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from model_code.training.hyperparameters import Hyperparameters
from model_code.training.job import TrainingError

FINAL_RATE_FRACTION = 0.1
_BLOCK = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")


def learning_rate(step: int, total: int, settings: Hyperparameters) -> float:
    """Rate of step 0..total-1: linear warm-up, then half a cosine down to a tenth of the peak."""
    warmup = round(total * settings.warmup_fraction)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * (FINAL_RATE_FRACTION + (1 - FINAL_RATE_FRACTION) * cosine)


@dataclass(frozen=True)
class AdapterPlan:
    """Which linear layers get adapters, at which rank, and how many parameters that trains."""

    targets: list[str]
    rank: int
    parameters: int


def plan_adapters(
    layers: Mapping[str, tuple[int, int]], blocks: int, settings: Hyperparameters
) -> AdapterPlan:
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
