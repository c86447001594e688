"""What eight bits cost a model: perplexity and a task's score beside those of the same weights in float32.

The file is beside an artefact's other files, but is none of the manifest's: it is a measurement of them.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from contracts.interval import Interval

QUANTISATION_FILE = "quantisation.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MeasuredText(_Record):
    """The text that perplexity was measured on: file name, SHA-256 in hex, predicted tokens."""

    name: str
    sha256: str
    tokens: int


class PerplexityLoss(_Record):
    """Perplexity of both, and eight bits' over float32's with its interval, from the tokens' differences."""

    float32: float
    int8: float
    ratio: float
    ratio_interval: Interval


class TaskLoss(_Record):
    """A task's score of both, from 0 to 1, and the share of items that both decided alike."""

    name: str
    items: int
    float32: float
    int8: float
    agreement: float


class QuantisationReport(_Record):
    """The whole file. `artefact` is the manifest's digest; `command` makes the figures again."""

    artefact: str
    scheme: str
    text: MeasuredText
    perplexity: PerplexityLoss
    task: TaskLoss | None
    command: str
    machine: str
    versions: dict[str, str]
