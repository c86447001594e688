"""What data preparation hands to training, and training to the registry: pairs and the two cards.

A pair is one question with the answer that support stands behind. The cards are provenance: from them
a person can tell which bytes, settings and code made a model.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

TRAIN_FILE = "train.jsonl"
HELDOUT_FILE = "heldout.jsonl"
DATA_CARD_FILE = "data_card.json"
TRAINING_CARD_FILE = "training_card.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SupportPair(_Record):
    """One line of `train.jsonl` and `heldout.jsonl`; `user` is a pseudonym.

    `group` names the template group: items of one group are rewordings of one another's form, so a
    group is never on both sides of the split.
    """

    id: str = Field(min_length=1)
    user: str = Field(min_length=1)
    group: str = Field(min_length=1)
    intent: str
    prompt: str = Field(min_length=1)
    answer: str = Field(min_length=1)


class FileDigest(_Record):
    """One file of a data set: its name, SHA-256 in hex, and number of rows."""

    name: str
    sha256: str
    rows: int


class SideCount(_Record):
    """How much one side of the split holds."""

    rows: int
    users: int
    groups: int


class DataCard(_Record):
    """Provenance of a prepared data set. `dropped` counts rows by reason; nothing is dropped uncounted."""

    sources: list[FileDigest]
    evaluation_sets: list[FileDigest]
    files: list[FileDigest]
    rows_read: int
    dropped: dict[str, int]
    masked: dict[str, int]
    train: SideCount
    heldout: SideCount
    settings: dict[str, Any]


class TrainingCard(_Record):
    """Provenance of a trained model, stored beside its weights. Memory in MiB, durations in seconds."""

    method: str
    base_name: str
    base_digest: str
    data: list[FileDigest]
    data_card: DataCard | None
    hyperparameters: dict[str, Any]
    code_version: str
    trainable_parameters: int
    total_parameters: int
    metrics: dict[str, float]
    resumed_from_step: int
    training_seconds: float
    peak_memory_mib: float
    versions: dict[str, str]


METRICS = (
    "train:loss",
    "train:learning_rate",
    "train:tokens_per_second",
    "validation:loss",
    "validation:base_loss",
)
"""Names a training job prints, as JSON lines `{"metric": name, "value": number, "step": number}`."""


def metric_line(name: str, value: float, step: int) -> str:
    """The JSON line of one measurement."""
    return json.dumps({"metric": name, "value": value, "step": step})


def metric_definitions() -> list[dict[str, str]]:
    """`AlgorithmSpecification.MetricDefinitions` of a training job: how SageMaker finds `metric_line`s."""
    number = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"
    return [{"Name": name, "Regex": f'"metric": "{name}", "value": {number}'} for name in METRICS]
