"""What comes next in a release, given its phase and the evidence. Pure: no AWS, no clock.

`analysis` says what the evidence is. The state machine follows these answers: `continue` waits for more
samples, `promote` goes to the next stage or, after the last one, to the promotion; else Restore follows.
"""

from __future__ import annotations

from contracts.release_decision import ReleaseDecision
from contracts.release_tasks import CanarySettings, Observed, VerdictAnswer
from lambdas.release.analysis import StageEvidence

UPDATE_DEADLINE_SECONDS = 9 * 3600
"""Of a stack's update with the endpoint's rest after it: the state machine that makes the update waits four
hours for others' updates and four for its own, in which a guarded one bakes."""


def canary_step(settings: CanarySettings, elapsed: float, evidence: StageEvidence) -> VerdictAnswer:
    """What a stage does `elapsed` seconds after it began.

    1. Too many failures, or a look that shows harm: roll back.
    2. The planned sample is complete: the decision stands, unless more failed than may.
    3. The deadline has passed: inconclusive.
    4. Otherwise: continue.
    """
    observed = evidence.observed
    if evidence.failing:
        return VerdictAnswer(verdict="roll_back", reason=evidence.failing, observed=observed)
    decision = evidence.decision
    if decision is not None and (decision.outcome == "roll_back" or decision.observed >= observed.planned):
        return _final(settings, decision, observed)
    rated = f"{observed.challenger_ratings} of the {observed.planned} planned ratings of the challenger"
    if elapsed >= settings.deadline_minutes * 60:
        return VerdictAnswer(
            verdict="inconclusive",
            reason=f"Inconclusive: only {rated} came within {settings.deadline_minutes:g} minutes.",
            observed=observed,
        )
    return VerdictAnswer(verdict="continue", reason=f"{rated} so far.", observed=observed)


def update_is_late(started_at: float | None, now: float) -> bool:
    """Whether an update that began then (seconds since the epoch) should have come to rest by now."""
    return started_at is not None and now - started_at >= UPDATE_DEADLINE_SECONDS


def _final(settings: CanarySettings, decision: ReleaseDecision, observed: Observed) -> VerdictAnswer:
    """The decision in this loop's words. Too many failures, shown or not, are none to promote on."""
    allowed = settings.maximum_error_rate * observed.challenger_calls
    if decision.outcome == "promote" and observed.challenger_failures > allowed:
        return VerdictAnswer(
            verdict="inconclusive",
            reason=(
                f"Inconclusive: {observed.challenger_failures} of {observed.challenger_calls} answers of the "
                f"challenger failed, and only {100 * settings.maximum_error_rate:g} % may."
            ),
            observed=observed,
        )
    return VerdictAnswer(verdict=decision.outcome, reason=decision.reason, observed=observed)
