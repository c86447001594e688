"""The offline gate: may this challenger meet callers at all? Pure: no AWS, no clock.

It takes the report's evidence and asks its own questions of it: are these the answers of this release, to all
held-out items, and do the intervals show the gain that the settings ask for. Held-out items share no user and
no template with training, so what a challenger only learned by heart does not help it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.release_decision import CriterionResult, ReleaseDecision
from contracts.release_tasks import GateAnswer, GateSettings, ServedModel
from contracts.report import EvaluatedSystem, EvaluationReport
from evaluation.statistics.decision import Criterion, Evidence, allocate_alpha, decide, truncation_reason

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Facts:
    """What the release itself knows: digests (SHA-256, hex) of both predictions files, held-out rows."""

    champion: ServedModel
    challenger: ServedModel
    champion_predictions: str
    challenger_predictions: str
    heldout_rows: int


def gate(settings: GateSettings, report: EvaluationReport, facts: Facts) -> GateAnswer:
    """Promote only where everything asked for is shown; the reason is one sentence."""
    mismatch = _mismatch(report, facts)
    if mismatch:
        return GateAnswer(decision="keep", reason=mismatch)
    assert report.decision is not None
    criteria = _criteria(settings, report.decision.criteria)
    if criteria[0].name not in {one.name for one in report.decision.criteria}:
        return GateAnswer(
            decision="keep",
            reason=f"The report does not judge by {settings.metric}, the metric that the gate asks for.",
        )
    truncated = truncation_reason(
        {f"the {_whose(one)}": one.cut_share for one in report.systems}, settings.maximum_cut_share
    )
    if truncated:
        return GateAnswer(decision="keep", reason=f"Inconclusive: {truncated}.")
    narrow = _too_narrow(criteria, settings.alpha, report.decision)
    if narrow:
        return GateAnswer(decision="keep", reason=narrow)
    found = {one.name: one for one in report.decision.criteria}
    decision = decide(
        [
            Evidence(one, found[one.name].difference, found[one.name].interval)
            if one.name in found
            else Evidence(one)
            for one in criteria
        ],
        alpha=settings.alpha,
        observed=report.decision.observed,
        planned=report.decision.planned,
    )
    finding = decision.reason.partition(": ")[2]
    if decision.outcome == "promote":
        return GateAnswer(decision="promote", reason=f"The challenger is better: {finding}")
    return GateAnswer(decision="keep", reason=f"The champion stays: {finding}")


def _mismatch(report: EvaluationReport, facts: Facts) -> str | None:
    """Why the report is no evidence about this challenger."""
    if facts.challenger.digest == facts.champion.digest:
        return "The challenger is the champion, byte for byte: there is nothing to release."
    if len(report.systems) != 2 or report.decision is None:
        return "The report does not compare the challenger with the champion."
    wanted = {"baseline": facts.champion_predictions, "candidate": facts.challenger_predictions}
    for system in report.systems:
        if system.predictions_digest != wanted[system.role]:
            return f"The report judges other answers of the {_whose(system)} than this release collected."
    if report.dataset.items != facts.heldout_rows:
        return f"The report judges {report.dataset.items} of the {facts.heldout_rows} held-out items."
    return None


def _whose(system: EvaluatedSystem) -> str:
    return "champion" if system.role == "baseline" else "challenger"


def _criteria(settings: GateSettings, judged: Sequence[CriterionResult]) -> list[Criterion]:
    """The gate's own criteria, and whatever else the report found harmed.

    What the report left open otherwise, such as the error rate on few items, does not bar the way: a failed
    item counts as a wrong answer in the metric already.
    """
    metric = next((one for one in judged if one.name == settings.metric), None)
    latency = next((one for one in judged if one.unit == "relative"), None)
    criteria = [
        Criterion(
            name=settings.metric,
            title=metric.title if metric else settings.metric,
            goal="superior",
            margin=settings.minimum_gain,
            higher_is_better=metric.higher_is_better if metric else True,
            unit=metric.unit if metric else "score",
        ),
        Criterion(
            name=latency.name if latency else "latency",
            title=latency.title if latency else "latency",
            goal="non_inferior",
            margin=settings.maximum_latency_ratio - 1,
            higher_is_better=False,
            unit="relative",
        ),
    ]
    criteria += [
        Criterion(one.name, one.title, one.goal, one.margin, one.higher_is_better, one.unit)
        for one in judged
        if one is not metric and one is not latency and one.state == "harmed"
    ]
    return criteria


def _too_narrow(criteria: Sequence[Criterion], alpha: float, judged: ReleaseDecision) -> str | None:
    """Intervals made for a larger error budget let more bad challengers pass than the settings allow."""
    shares = allocate_alpha(criteria, alpha)
    for one in judged.criteria:
        asked = 1 - shares.get(one.name, alpha)
        if one.interval is not None and one.interval.level < asked - _ROUNDING:
            return (
                f"The report's intervals are too narrow for the gate: "
                f"{100 * one.interval.level:.4g} % where {100 * asked:.4g} % is asked for."
            )
    return None
