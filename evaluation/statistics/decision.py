"""One decision out of several criteria under one error budget: promote, roll back or inconclusive. No numpy.

Each criterion gets its share of alpha (union bound) and an equal-tailed interval of challenger minus champion
at that share. With every criterion truly no worse than the champion, a roll back happens with probability at
most alpha / 2; with any criterion truly worse by its margin or more, a promotion happens with probability at
most half of that criterion's share, since promotion needs all criteria at once. Both hold however the
criteria depend on each other, and for interim looks when the intervals are repeated ones (see `canary`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.interval import Interval
from contracts.release_decision import CriterionResult, CriterionState, Goal, ReleaseDecision


@dataclass(frozen=True)
class Criterion:
    """What is asked of the challenger.

    `title` reads well after "the", as in "the error rate". `unit` is `fraction` or `percent` (both shown in
    points), `relative` (0.1 is shown as 10 %), `ms` or `score`. `margin` is the loss that a `non_inferior`
    goal accepts, or the gain that a `superior` one asks for; `weight` the relative share of alpha.
    """

    name: str
    title: str
    goal: Goal
    margin: float
    higher_is_better: bool
    unit: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (self.margin >= 0 and math.isfinite(self.margin)):
            raise ValueError(f"{self.name}: the margin must be a number of at least zero, not {self.margin}")
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise ValueError(f"{self.name}: the weight must be a number above zero, not {self.weight}")


@dataclass(frozen=True)
class Evidence:
    """A criterion with its estimate of challenger minus champion; both None where data do not suffice."""

    criterion: Criterion
    difference: float | None = None
    interval: Interval | None = None


def allocate_alpha(criteria: Sequence[Criterion], alpha: float) -> Mapping[str, float]:
    """Each criterion's part of alpha, by weight; the parts add up to alpha.

    Raises ValueError for no criteria, a name used twice, or an alpha outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    names = [criterion.name for criterion in criteria]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a decision needs one or more criteria with names of their own, not {names}")
    total = sum(criterion.weight for criterion in criteria)
    return {criterion.name: alpha * criterion.weight / total for criterion in criteria}


def truncation_reason(shares: Mapping[str, float | None], maximum: float) -> str | None:
    """Why answers cut at the limit of tokens bar a decision; None where no system has too many of them.

    A metric from 0 to 1 is off by at most the share of cut answers, in either direction.
    """
    too_many = [
        f"{100 * share:.3g} % of the answers of {name}"
        for name, share in shares.items()
        if share is not None and share > maximum
    ]
    if not too_many:
        return None
    return (
        f"{' and '.join(too_many)} were cut at the limit of tokens, above the {100 * maximum:.3g} % accepted"
    )


def judge(evidence: Evidence) -> CriterionState:
    """`met` where the goal is shown, `harmed` where the challenger is shown worse and the goal is not met."""
    if evidence.interval is None:
        return "open"
    criterion = evidence.criterion
    if criterion.higher_is_better:
        worst, best = evidence.interval.low, evidence.interval.high
    else:
        worst, best = -evidence.interval.high, -evidence.interval.low
    if worst > (criterion.margin if criterion.goal == "superior" else -criterion.margin):
        return "met"
    return "harmed" if best < 0 else "open"


def decide(evidence: Sequence[Evidence], *, alpha: float, observed: int, planned: int) -> ReleaseDecision:
    """The decision on all criteria together.

    Harm ends a trial at any look; promotion waits for the planned sample; anything else is inconclusive.
    """
    states = [judge(one) for one in evidence]
    harmed = [one for one, state in zip(evidence, states, strict=True) if state == "harmed"]
    open_ones = [one for one, state in zip(evidence, states, strict=True) if state == "open"]
    allocate_alpha([one.criterion for one in evidence], alpha)  # refuses what no budget can cover
    if harmed:
        outcome, reason = "roll_back", "Roll back: " + "; ".join(_finding(one) for one in harmed) + "."
    elif observed < planned:
        outcome = "inconclusive"
        reason = f"Inconclusive: {observed} of the {planned} planned observations are too few to promote on."
    elif open_ones:
        outcome = "inconclusive"
        reason = "Inconclusive: " + "; ".join(_doubt(one) for one in open_ones) + "."
    else:
        outcome, reason = "promote", "Promote: " + "; ".join(_finding(one) for one in evidence) + "."
    return ReleaseDecision(
        outcome=outcome,
        reason=reason,
        criteria=[_result(one, state) for one, state in zip(evidence, states, strict=True)],
        alpha=alpha,
        observed=observed,
        planned=planned,
    )


def _result(evidence: Evidence, state: CriterionState) -> CriterionResult:
    criterion = evidence.criterion
    return CriterionResult(
        name=criterion.name,
        title=criterion.title,
        goal=criterion.goal,
        margin=criterion.margin,
        higher_is_better=criterion.higher_is_better,
        unit=criterion.unit,
        difference=evidence.difference,
        interval=evidence.interval,
        state=state,
    )


_SUFFIXES = {"fraction": " points", "percent": " points", "relative": " %", "ms": " ms"}


def amount(value: float, unit: str) -> str:
    """A size in words.

    >>> amount(0.0312, "fraction"), amount(0.1, "relative"), amount(12.4, "ms")
    ('3.1 points', '10 %', '12.4 ms')
    """
    return _number(value, unit) + _SUFFIXES.get(unit, "")


def signed_amount(value: float, unit: str) -> str:
    """A difference in words, with its sign.

    >>> signed_amount(-0.02, "relative")
    '−2 %'
    """
    return _signed(value, unit) + _SUFFIXES.get(unit, "")


def signed_range(interval: Interval, unit: str) -> str:
    """Both ends of an interval of a difference, the unit once.

    >>> signed_range(Interval(low=-0.01, high=0.025, level=0.95, method="x"), "fraction")
    '−1 to +2.5 points'
    """
    return f"{_signed(interval.low, unit)} to {signed_amount(interval.high, unit)}"


def _number(value: float, unit: str) -> str:
    if unit not in _SUFFIXES:
        return f"{value:.3g}"
    shown = 100 * value if unit in ("fraction", "relative") else value
    return f"{shown:.1f}".removesuffix(".0")


def _signed(value: float, unit: str) -> str:
    text = _number(abs(value), unit)
    return text if text == "0" else f"{'+' if value > 0 else '−'}{text}"


def _finding(evidence: Evidence) -> str:
    criterion, difference, interval = evidence.criterion, evidence.difference, evidence.interval
    if difference is None or interval is None:
        raise ValueError(f"{criterion.name}: a finding needs an estimate")
    if _number(abs(difference), criterion.unit) == "0":
        moved = "is unchanged"
    else:
        moved = f"is {amount(abs(difference), criterion.unit)} {'higher' if difference > 0 else 'lower'}"
    return f"the {criterion.title} {moved} ({signed_range(interval, criterion.unit)})"


def _doubt(evidence: Evidence) -> str:
    criterion = evidence.criterion
    if evidence.difference is None or evidence.interval is None:
        return f"too few observations to judge the {criterion.title}"
    if criterion.goal == "superior":
        least = f" above {amount(criterion.margin, criterion.unit)}" if criterion.margin else ""
        wanted = f"no gain{least} is shown"
    else:
        wanted = f"a loss above {amount(criterion.margin, criterion.unit)} is not excluded"
    return f"{_finding(evidence)}, so {wanted}"
