"""The metrics that Evergreen knows, one record each; `ALL` is the order in which reports show them.

Semantic similarity is not in `ALL`: it needs an encoder (see `semantic`).
"""

from __future__ import annotations

from evaluation.metrics.base import Metric, Scores
from evaluation.metrics.classification import CLASSIFICATION_METRICS
from evaluation.metrics.operation import OPERATION_METRICS
from evaluation.metrics.perplexity import PERPLEXITY
from evaluation.metrics.qa import EXACT_MATCH, TOKEN_F1
from evaluation.metrics.rouge import ROUGE_METRICS
from evaluation.metrics.text import BLEU_METRIC, CHRF_METRIC

ALL: tuple[Metric, ...] = (
    TOKEN_F1,
    EXACT_MATCH,
    BLEU_METRIC,
    CHRF_METRIC,
    *ROUGE_METRICS,
    *CLASSIFICATION_METRICS,
    PERPLEXITY,
    *OPERATION_METRICS,
)

__all__ = ["ALL", "Metric", "Scores"]
