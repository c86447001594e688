"""The decision about a release: promote, roll back, or inconclusive, with the evidence it rests on.

Written by the statistics of `evaluation`, read by the release loop, its ledger and the report.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.interval import Interval

Outcome = Literal["promote", "roll_back", "inconclusive"]
Goal = Literal["superior", "non_inferior"]
CriterionState = Literal["met", "harmed", "open"]


class CriterionResult(BaseModel):
    """One criterion's share of the decision.

    `difference` is challenger minus champion in `unit` (`score`, `fraction`, `relative`: 0.04 is 4 % more,
    or `ms`); `interval` bounds it at this criterion's share of the error budget; `margin` is the loss that
    would still be accepted, never negative. Both are None where there was too little data to compute them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    goal: Goal
    margin: float = Field(ge=0)
    higher_is_better: bool
    unit: str
    difference: float | None
    interval: Interval | None
    state: CriterionState


class ReleaseDecision(BaseModel):
    """What to do with the challenger. `reason` is one sentence for a person; `alpha` the whole error budget.

    `observed` and `planned` count the smaller arm's observations (for paired comparisons: the items).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Outcome
    reason: str
    criteria: list[CriterionResult]
    alpha: float = Field(gt=0, lt=1)
    observed: int = Field(ge=0)
    planned: int = Field(ge=0)
