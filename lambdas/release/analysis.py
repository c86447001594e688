"""What a canary's traffic says about the challenger. Pure: no AWS, no clock. What follows: `rollout`.

Ratings and time to first token are judged at looks fixed beforehand, at thirds of the planned sample. Each
look takes the data up to the moment its sample was complete, so a verdict does not depend on how often
anybody asks and can be computed again later. Failures are watched all the time by a confidence
sequence: a challenger that answers nobody gets no ratings, and must not stay until the deadline.

Ratings count as independent. People who rate often weigh more than others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.release_decision import ReleaseDecision
from contracts.release_tasks import CanarySettings, Observed
from evaluation.statistics.canary import Arms, CanaryPlan, verdict
from evaluation.statistics.confidence_sequences import proportion_confseq
from evaluation.statistics.decision import Criterion
from evaluation.statistics.means import Moments
from evaluation.statistics.proportions import Proportion

_LOOKS = (1 / 3, 2 / 3, 1.0)
_FAILURES_PART = 0.25
"""Part of a stage's error budget that watches failures; ratings get half of it, latency the rest."""
_CONTENT_FROM = 0.5
_SERVER_ERROR, _CALLER_ERROR = 500, 400


@dataclass(frozen=True)
class Rating:
    """One rating, 0 to 1, of the answer to a request; `given_at` in seconds since the epoch."""

    request_id: str
    given_at: float
    score: float


@dataclass(frozen=True)
class CallRecord:
    """One request; `received_at` in seconds since the epoch."""

    received_at: float
    status: int
    ttft_ms: float | None

    @property
    def failed(self) -> bool:
        """Whether the service failed, rather than the caller."""
        return self.status >= _SERVER_ERROR

    @property
    def counts(self) -> bool:
        """Whether the model had a say: refused requests and callers who left prove nothing."""
        return self.failed or self.status < _CALLER_ERROR


@dataclass(frozen=True)
class Traffic:
    """One variant's calls and ratings since a stage began, in any order."""

    calls: Sequence[CallRecord]
    ratings: Sequence[Rating]


@dataclass(frozen=True)
class StageEvidence:
    """What a stage's traffic says at the latest look that its sample has reached.

    `failing` says why the challenger fails too often, once that is shown; `decision` is None before the first
    look.
    """

    failing: str | None
    decision: ReleaseDecision | None
    observed: Observed


def analyze_stage(
    settings: CanarySettings, stage: int, champion: Traffic, challenger: Traffic
) -> StageEvidence:
    """The evidence of a stage. Raises IndexError for a stage that the settings do not have."""
    planned = settings.planned_sample[stage]
    alpha = settings.alpha / len(settings.shares)  # one error budget for the whole release
    return StageEvidence(
        failing=_failing(settings.maximum_error_rate, alpha * _FAILURES_PART, challenger.calls),
        decision=_last_look(_plan(settings, planned, alpha), champion, challenger),
        observed=_observed(planned, champion, challenger),
    )


def _plan(settings: CanarySettings, planned: int, alpha: float) -> CanaryPlan:
    rating = Criterion(
        name="rating",
        title="share of content ratings",
        goal="non_inferior",
        margin=settings.maximum_rating_loss,
        higher_is_better=True,
        unit="fraction",
        weight=2.0,
    )
    latency = Criterion(
        name="time_to_first_token",
        title="time to first token",
        goal="non_inferior",
        margin=settings.maximum_latency_ratio - 1,
        higher_is_better=False,
        unit="relative",
    )
    return CanaryPlan((rating, latency), planned, alpha * (1 - _FAILURES_PART))


def _last_look(plan: CanaryPlan, champion: Traffic, challenger: Traffic) -> ReleaseDecision | None:
    """The decision at the first look that shows harm, else at the latest one reached; None before any."""
    completed = _completions(challenger.ratings)
    sizes = sorted({math.ceil(plan.planned * fraction) for fraction in _LOOKS})
    decision = None
    for number, size in enumerate(sizes):
        if len(completed) < size:
            break
        until = completed[size - 1]
        outcomes = {
            "time_to_first_token": Arms(_ttft(champion.calls, until), _ttft(challenger.calls, until)),
        }
        rated = _content(champion.ratings, until)
        if rated.trials:  # a champion that nobody rated is not one that nobody liked
            outcomes["rating"] = Arms(rated, _content(challenger.ratings, until))
        decision = verdict(plan, outcomes, sizes[:number], size)
        if decision.outcome == "roll_back":
            break
    return decision


def _completions(ratings: Sequence[Rating]) -> list[float]:
    """When the first, second … request got its first rating, rising."""
    first: dict[str, float] = {}
    for rating in ratings:
        first[rating.request_id] = min(rating.given_at, first.get(rating.request_id, math.inf))
    return sorted(first.values())


def _content(ratings: Sequence[Rating], until: float) -> Proportion:
    """Requests whose latest rating until then is a good one, out of those rated."""
    latest = {
        rating.request_id: rating.score
        for rating in sorted(ratings, key=lambda rating: rating.given_at)
        if rating.given_at <= until
    }
    return Proportion(sum(score >= _CONTENT_FROM for score in latest.values()), len(latest))


def _ttft(calls: Sequence[CallRecord], until: float) -> Moments:
    return Moments.of_logarithms(
        call.ttft_ms for call in calls if call.ttft_ms and call.received_at <= until and not call.failed
    )


def _failures(calls: Sequence[CallRecord]) -> Proportion:
    counted = [call for call in calls if call.counts]
    return Proportion(sum(call.failed for call in counted), len(counted))


def _failing(ceiling: float, alpha: float, calls: Sequence[CallRecord]) -> str | None:
    """Why the challenger fails too often, once that is shown."""
    failures = _failures(calls)
    if proportion_confseq(failures, alpha).low <= ceiling:
        return None
    return (
        f"Roll back: {failures.events} of the challenger's {failures.trials} answers failed, "
        f"more than the {100 * ceiling:g} % allowed."
    )


def _observed(planned: int, champion: Traffic, challenger: Traffic) -> Observed:
    old, new = (_content(arm.ratings, math.inf) for arm in (champion, challenger))
    failures = _failures(challenger.calls)
    return Observed(
        planned=planned,
        challenger_ratings=new.trials,
        champion_ratings=old.trials,
        challenger_content=new.value if new.trials else None,
        champion_content=old.value if old.trials else None,
        challenger_calls=failures.trials,
        challenger_failures=failures.events,
    )
