"""How a system behaved while answering: errors, latency, time to first token, time per output token.

Times are those the caller measured, in milliseconds, over answered items only; the error rate says what is
missing from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from contracts.predictions import Prediction
from evaluation.metrics.base import Metric, Scores, mean_scores
from evaluation.statistics.estimators import QuantileEstimator

Timing = Literal["duration", "ttft", "tpot"]
Reader = Callable[[Prediction], float | None]

TIMING_TITLES: dict[Timing, str] = {
    "duration": "Latency",
    "ttft": "Time to first token",
    "tpot": "Time per output token",
}


def duration(prediction: Prediction) -> float | None:
    """The whole answer's time; None for a failed item."""
    return prediction.duration_ms if prediction.error is None else None


def ttft(prediction: Prediction) -> float | None:
    """Time to the first token; None for a failed item."""
    return prediction.ttft_ms if prediction.error is None else None


def tpot(prediction: Prediction) -> float | None:
    """Time per output token after the first; None below two tokens.

    >>> tpot(Prediction(id="1", prediction="a b c", ttft_ms=100, duration_ms=140, completion_tokens=3))
    20.0
    """
    whole, first, count = duration(prediction), ttft(prediction), prediction.completion_tokens
    if whole is None or first is None or count is None or count < 2:
        return None
    return (whole - first) / (count - 1)


TIMINGS: dict[Timing, Reader] = {"duration": duration, "ttft": ttft, "tpot": tpot}


def cut_share(predictions: Sequence[Prediction]) -> float | None:
    """The share of answers that ended at the limit of tokens; None where none says how it ended."""
    ends = [one.finish_reason for one in predictions if one.error is None and one.finish_reason is not None]
    return ends.count("length") / len(ends) if ends else None


def _values(read: Reader, predictions: Sequence[Prediction]) -> list[float]:
    return [np.nan if (value := read(prediction)) is None else value for prediction in predictions]


def _quantile(timing: Timing, percent: int) -> Metric:
    read = TIMINGS[timing]

    def score(predictions: Sequence[Prediction]) -> Scores:
        items = np.array(_values(read, predictions))
        return Scores(QuantileEstimator(items, percent / 100), None, int((~np.isnan(items)).sum()))

    return Metric(
        name=f"{timing}_p{percent}",
        title=f"p{percent} {TIMING_TITLES[timing].lower()}",
        unit="ms",
        higher_is_better=False,
        formula=f"{percent}th percentile over answered items",
        needs=lambda prediction: read(prediction) is not None,
        needs_all=False,
        score=score,
    )


def _mean(timing: Timing) -> Metric:
    read = TIMINGS[timing]
    return Metric(
        name=f"{timing}_mean",
        title=f"Mean {TIMING_TITLES[timing].lower()}",
        unit="ms",
        higher_is_better=False,
        formula="Arithmetic mean over answered items",
        needs=lambda prediction: read(prediction) is not None,
        needs_all=False,
        score=lambda predictions: mean_scores(_values(read, predictions)),
    )


ERROR_RATE = Metric(
    name="error_rate",
    title="Error rate",
    unit="fraction",
    higher_is_better=False,
    formula="Share of items without an answer",
    needs=lambda _: True,
    score=lambda predictions: mean_scores([float(one.error is not None) for one in predictions], binary=True),
)
OPERATION_METRICS = (
    ERROR_RATE,
    *(
        metric
        for timing in TIMINGS
        for metric in (_mean(timing), *(_quantile(timing, percent) for percent in (50, 95, 99)))
    ),
)
