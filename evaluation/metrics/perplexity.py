"""Perplexity from the log-probabilities a model gave to the tokens it was scored on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contracts.predictions import Prediction
from evaluation.metrics.base import Metric, Scores
from evaluation.statistics.estimators import Floats, SumEstimator, ratio


def perplexity_from_sums(sums: Floats) -> Floats:
    """exp of the mean negative log-probability of rows [summed negative log-probability, tokens].

    >>> perplexity_from_sums(np.array([[2 * np.log(8), 2.0]])).round(6)
    array([8.])
    """
    perplexity: Floats = np.exp(ratio(sums))
    return perplexity


def score_perplexity(predictions: Sequence[Prediction]) -> Scores:
    """Over all tokens together, so long items weigh more; item values are the items' own perplexities."""
    logprobs = [prediction.token_logprobs or [] for prediction in predictions]
    statistics = np.array([[-sum(values), len(values)] for values in logprobs], dtype=np.float64)
    return Scores(
        SumEstimator(statistics, perplexity_from_sums), perplexity_from_sums(statistics), len(predictions)
    )


PERPLEXITY = Metric(
    name="perplexity",
    title="Perplexity",
    unit="perplexity",
    higher_is_better=False,
    formula="exp(−mean natural log-probability per token), over the tokens of all items",
    needs=lambda prediction: bool(prediction.token_logprobs),
    score=score_perplexity,
)
