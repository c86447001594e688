"""The evaluation report: what was measured, on what, how sure it is, and what was decided.

Written by `evaluation` as JSON, drawn by it as one HTML page, kept in the registry beside the model.
Every figure that rests on a sample carries an interval.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.interval import Interval
from contracts.release_decision import ReleaseDecision

Unit = Literal["score", "fraction", "percent", "ms", "perplexity"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MetricInfo(_Part):
    """What a metric is. `fraction` runs from 0 to 1, `percent` from 0 to 100, as the field publishes it."""

    name: str
    title: str
    unit: Unit
    higher_is_better: bool
    formula: str


class EvaluatedSystem(_Part):
    """One evaluated system; the digest is the SHA-256 of its predictions file.

    `cut_share` is the share of its answers that ended at the limit of tokens; None where none says how it
    ended.
    """

    name: str
    role: Literal["baseline", "candidate"]
    predictions_digest: Digest
    errors: int = Field(ge=0)
    cut_share: float | None = Field(default=None, ge=0, le=1)


class Dataset(_Part):
    """The evaluation set. Its digest covers ids, prompts, references and labels, in order of id."""

    name: str
    digest: Digest
    items: int = Field(ge=1)
    groups: int | None = None
    slices: dict[str, int] = Field(default_factory=dict)


class MetricResult(_Part):
    """One metric of one system, over all items or over one slice; `items` that the metric could use."""

    metric: str
    system: str
    value: float
    interval: Interval | None
    items: int
    slice: str | None = None


class Bin(_Part):
    """One bar of a histogram: counts of values in [low, high); the last bar includes its high end."""

    low: float
    high: float
    count: int


class PairedComparison(_Part):
    """Candidate minus baseline on the same items.

    Wins, ties and losses count items from the candidate's side; they and the histogram of item differences
    are there where the metric has a value per item.
    """

    metric: str
    baseline: str
    candidate: str
    difference: float
    interval: Interval
    p_value: float = Field(ge=0, le=1)
    items: int
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None
    histogram: list[Bin] = Field(default_factory=list)
    slice: str | None = None


class TimingCurve(_Part):
    """A timing's distribution for one system: `percentiles[i]` is the i-th percentile in milliseconds."""

    timing: Literal["duration", "ttft", "tpot"]
    system: str
    items: int
    percentiles: list[float] = Field(min_length=101, max_length=101)


class ExampleAnswer(_Part):
    """What one system answered to one item, and its value of the primary metric there."""

    system: str
    text: str
    value: float | None
    error: str | None = None


class ReportExample(_Part):
    """One item, all systems side by side; long texts are cut and end in an ellipsis."""

    id: str
    kind: Literal["win", "loss", "sample"]
    slice: str | None
    prompt: str
    references: list[str]
    answers: list[ExampleAnswer]


class EvaluationMethod(_Part):
    """How the figures were computed, enough to compute them again."""

    resamples: int
    seed: int
    level: float
    primary_metric: str
    python: str
    packages: dict[str, str]
    signatures: dict[str, str] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class EvaluationReport(_Part):
    """The whole report. `headline` is the verdict in one sentence; `decision` is there for two systems."""

    version: Literal["1"] = "1"
    title: str
    created_at: datetime
    headline: str
    systems: list[EvaluatedSystem] = Field(min_length=1)
    dataset: Dataset
    metrics: list[MetricInfo]
    results: list[MetricResult]
    comparisons: list[PairedComparison] = Field(default_factory=list)
    timings: list[TimingCurve] = Field(default_factory=list)
    examples: list[ReportExample] = Field(default_factory=list)
    decision: ReleaseDecision | None = None
    method: EvaluationMethod
