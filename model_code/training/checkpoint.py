"""Checkpoints of a training run: one file, replaced atomically, tied to the run it belongs to.

SageMaker copies the folder to S3 as it changes and back on restart, so a half-written file must never
have the final name. Knows tensors and files only.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

CHECKPOINT_FILE = "checkpoint.pt"


@dataclass
class Progress:
    """All that a run needs to go on: plain numbers, adapter weights, optimizer state.

    `run` is a digest of data, base model and hyperparameters; losses are nats per answer token.
    """

    run: str
    step: int = 0
    best_loss: float | None = None
    best_step: int = 0
    worse_evaluations: int = 0
    evaluated_step: int = -1
    base_loss: float | None = None
    tokens: int = 0
    seconds: float = 0.0
    adapter: dict[str, torch.Tensor] | None = None
    best_adapter: dict[str, torch.Tensor] | None = None
    optimizer: dict[str, Any] | None = None


def save(folder: Path, progress: Progress) -> None:
    """Write the checkpoint; what was there stays intact until the new one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{CHECKPOINT_FILE}.partial"
    torch.save({name: getattr(progress, name) for name in asdict(Progress(run=""))}, partial)
    with partial.open("rb+") as stream:
        os.fsync(stream.fileno())
    partial.replace(folder / CHECKPOINT_FILE)


def load(folder: Path, run: str) -> Progress | None:
    """The checkpoint of this very run, or None when there is none or it belongs to another run."""
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return None
    stored = torch.load(path, map_location="cpu", weights_only=True)
    return Progress(**stored) if stored["run"] == run else None
