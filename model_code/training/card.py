"""The training card: what went into a model, what came out, on what machine and with which libraries."""

from __future__ import annotations

import platform
import resource
from dataclasses import dataclass

import peft
import torch
import transformers

from contracts.artefact import Manifest
from contracts.training import DataCard, FileDigest, TrainingCard
from model_code.training.checkpoint import Progress
from model_code.training.hyperparameters import Hyperparameters
from model_code.training.schedule import AdapterPlan


@dataclass(frozen=True)
class Inputs:
    """What a run was given: the verified base, the training file, its data card, the code's version."""

    base: Manifest
    data: FileDigest
    data_card: DataCard | None
    code_version: str


@dataclass(frozen=True)
class Setup:
    """What was decided from them: adapters, size of the whole model, precision, step of the checkpoint."""

    plan: AdapterPlan
    total_parameters: int
    dtype: torch.dtype
    resumed_from_step: int


def training_card(
    inputs: Inputs, settings: Hyperparameters, setup: Setup, progress: Progress
) -> TrainingCard:
    """The card of a finished run; peak memory is the process's own, so far."""
    return TrainingCard(
        method=settings.method,
        base_name=inputs.base.name,
        base_digest=inputs.base.digest,
        data=[inputs.data],
        data_card=inputs.data_card,
        hyperparameters={
            **settings.model_dump(),
            "rank": setup.plan.rank,
            "adapted_modules": len(setup.plan.targets),
            "training_dtype": str(setup.dtype).removeprefix("torch."),
        },
        code_version=inputs.code_version,
        trainable_parameters=setup.plan.parameters,
        total_parameters=setup.total_parameters,
        metrics=_metrics(progress),
        resumed_from_step=setup.resumed_from_step,
        training_seconds=progress.seconds,
        peak_memory_mib=_peak_memory_mib(),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    )


def _metrics(progress: Progress) -> dict[str, float]:
    values = {
        "validation_base_loss": progress.base_loss,
        "validation_loss": progress.best_loss,
        "best_step": float(progress.best_step),
        "steps": float(progress.step),
        "tokens_per_second": progress.tokens / max(progress.seconds, 1e-9),
    }
    return {name: value for name, value in values.items() if value is not None}


def _peak_memory_mib() -> float:
    """The most memory the process (and its accelerator, if any) held at once, in MiB."""
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return host + device
