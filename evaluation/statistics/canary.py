"""The verdict on a canary: two arms of live traffic, looked at several times on the way to a planned sample.

Pure and free of numpy: the release loop's Lambda functions call `verdict` with counts and moments they read
from metrics. A canary advances on its sample, never on time alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.interval import Interval
from contracts.release_decision import ReleaseDecision
from evaluation.statistics.decision import Criterion, Evidence, allocate_alpha, decide
from evaluation.statistics.group_sequential import SpendingFunction, critical_values, obrien_fleming
from evaluation.statistics.means import Moments, difference_limits
from evaluation.statistics.proportions import Proportion, newcombe_limits


@dataclass(frozen=True)
class CanaryPlan:
    """What was fixed before the canary began: criteria, error budget, the challenger's planned sample."""

    criteria: tuple[Criterion, ...]
    planned: int
    alpha: float = 0.05
    spending: SpendingFunction = obrien_fleming

    def __post_init__(self) -> None:
        allocate_alpha(self.criteria, self.alpha)
        if self.planned < 1:
            raise ValueError(f"a canary needs a planned sample of at least one, not {self.planned}")


@dataclass(frozen=True)
class Arms:
    """One criterion's outcomes so far: rates, or moments. For the unit `relative`, moments of logarithms."""

    champion: Proportion | Moments
    challenger: Proportion | Moments

    def __post_init__(self) -> None:
        if type(self.champion) is not type(self.challenger):
            raise ValueError("both arms must be measured alike: two rates, or two sets of moments")


def verdict(
    plan: CanaryPlan, outcomes: dict[str, Arms], earlier_looks: Sequence[int], observed: int
) -> ReleaseDecision:
    """The decision at this look.

    `observed` and `earlier_looks` count the challenger's observations now and at each look before, rising;
    every look that could have ended the canary must be named. `outcomes` holds each criterion by name;
    a missing one leaves the verdict open. Raises ValueError for looks that do not rise or outcomes the plan
    does not know.
    """
    unknown = set(outcomes) - {criterion.name for criterion in plan.criteria}
    if unknown:
        raise ValueError(f"the plan knows no criteria named {sorted(unknown)}")
    fractions = [look / plan.planned for look in (*earlier_looks, observed)] if observed else []
    shares = allocate_alpha(plan.criteria, plan.alpha)
    criticals = {
        share: critical_values(fractions, share, plan.spending)[-1]
        for share in set(shares.values())
        if fractions
    }
    evidence = []
    for criterion in plan.criteria:
        arms = outcomes.get(criterion.name)
        if arms is None or not fractions:
            evidence.append(Evidence(criterion))
            continue
        share = shares[criterion.name]
        evidence.append(_evidence(criterion, arms, criticals[share], share))
    return decide(evidence, alpha=plan.alpha, observed=observed, planned=plan.planned)


def _evidence(criterion: Criterion, arms: Arms, critical: float, alpha: float) -> Evidence:
    if isinstance(arms.champion, Proportion) and isinstance(arms.challenger, Proportion):
        limits: tuple[float, float] | None = newcombe_limits(arms.champion, arms.challenger, critical)
        difference = arms.challenger.value - arms.champion.value
        method = "Newcombe, repeated"
    elif isinstance(arms.champion, Moments) and isinstance(arms.challenger, Moments):
        limits = difference_limits(arms.champion, arms.challenger, critical)
        difference = arms.challenger.mean - arms.champion.mean
        method = "normal, repeated"
        if criterion.unit == "relative":  # a difference of logarithms is a ratio: log 1.1 is 10 % more
            difference = math.expm1(difference)
            limits = (math.expm1(limits[0]), math.expm1(limits[1])) if limits else None
    else:
        raise ValueError(f"{criterion.name}: the arms are measured differently")
    if limits is None:
        return Evidence(criterion)
    return Evidence(
        criterion,
        difference,
        Interval(low=limits[0], high=limits[1], level=1 - alpha, method=method),
    )
