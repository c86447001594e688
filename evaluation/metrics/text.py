"""BLEU and chrF as sacreBLEU defines them; resampled through their sufficient statistics.

sacreBLEU tokenises and counts; the last step, from summed counts to the score, is repeated here for
whole arrays at once, so that thousands of resamples cost one matrix product. Tests hold it
equal to sacreBLEU's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from contracts.predictions import Prediction
from evaluation.metrics.base import Metric, Scores, has_references
from evaluation.statistics.estimators import Floats, SumEstimator

_ORDER = 4


def bleu_from_sums(sums: Floats) -> Floats:
    """Corpus BLEU, 0 to 100, of rows [answer length, reference length, 4 matches, 4 totals].

    Exponential smoothing of orders without a match; brevity penalty exp(1 - reference / answer) for short
    answers. Source: Papineni et al. 2002; smoothing: Chen and Cherry 2014, method 3.
    """
    answer, reference = sums[:, 0], sums[:, 1]
    matches, totals = sums[:, 2 : 2 + _ORDER], sums[:, 2 + _ORDER :]
    with np.errstate(divide="ignore", invalid="ignore"):
        halvings = 2.0 ** np.cumsum(matches == 0, axis=1)
        precisions = np.where(matches > 0, matches / totals, 1 / (halvings * totals))
        logs = np.log(100 * precisions)
        brevity = np.where(answer < reference, np.exp(1 - reference / answer), 1.0)
        scores = brevity * np.exp(logs.sum(axis=1) / _ORDER)
    # An order that no answer is long enough for, or no match at all, leaves the score at zero.
    scores[(totals == 0).any(axis=1) | (matches == 0).all(axis=1)] = 0.0
    result: Floats = scores
    return result


def chrf_from_sums(sums: Floats) -> Floats:
    """chrF2, 0 to 100, of rows with [answer, reference, matching] n-gram counts for orders 1 to 6.

    Precision and recall are averaged over the orders present in both, then F with beta = 2.
    Source: Popović 2015, WMT.
    """
    answer, reference, matching = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]
    present = (answer > 0) & (reference > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(present, matching / answer, 0).sum(axis=1) / present.sum(axis=1)
        recall = np.where(present, matching / reference, 0).sum(axis=1) / present.sum(axis=1)
        scores = 100 * 5 * precision * recall / (4 * precision + recall)
    result: Floats = np.nan_to_num(scores)
    return result


BLEU_TOKENIZERS = ("13a", "intl", "zh", "char", "none")
"""sacreBLEU's that need no other package; `zh` and `char` are for scripts without blanks between words."""


def score_bleu(predictions: Sequence[Prediction], tokenizer: str = "13a") -> Scores:
    """Corpus BLEU; item values are sentence BLEU with effective order, as sacreBLEU recommends."""
    bleu = BLEU(effective_order=True, tokenize=tokenizer)
    sentences = [bleu.sentence_score(_answer(item), item.references) for item in predictions]
    rows = [[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in sentences]
    items = np.array([one.score for one in sentences])
    statistics = np.array(rows, dtype=np.float64)
    return Scores(SumEstimator(statistics, bleu_from_sums), items, len(predictions))


def score_chrf(predictions: Sequence[Prediction]) -> Scores:
    """Corpus chrF2; item values are sentence chrF2."""
    statistics = np.array([_chrf_counts(item) for item in predictions], dtype=np.float64)
    return Scores(SumEstimator(statistics, chrf_from_sums), chrf_from_sums(statistics), len(predictions))


def signatures(references: Sequence[int], tokenizer: str = "13a") -> dict[str, str]:
    """sacreBLEU's signatures: with them anyone can compute the same figure. `references`: how many each item
    has."""
    bleu, chrf = BLEU(tokenize=tokenizer), CHRF()
    # As many as there are: sacreBLEU writes their number, or that it varies.
    counts = sorted(set(references) - {0}) or [1]
    columns: list[Any] = [
        ["a" if number < count else None for count in counts] for number in range(counts[-1])
    ]
    for metric in (bleu, chrf):
        metric.corpus_score(["a"] * len(counts), columns)
    return {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}


def _answer(prediction: Prediction) -> str:
    return "" if prediction.error is not None else prediction.prediction


def _chrf_counts(prediction: Prediction) -> list[int]:
    # sacreBLEU has no public name for chrF's counts; a test fails if this one changes its meaning.
    references = [[reference] for reference in prediction.references]
    counts: list[int] = CHRF()._extract_corpus_statistics([_answer(prediction)], references)[0]  # noqa: SLF001
    return counts


def bleu_metric(tokenizer: str) -> Metric:
    """BLEU over one of sacreBLEU's tokenizers."""
    return Metric(
        name="bleu",
        title="BLEU",
        unit="percent",
        higher_is_better=True,
        formula=f"Corpus BLEU-4 (sacreBLEU, {tokenizer}): geometric mean of 1- to 4-gram precisions × brevity"
        " penalty",
        needs=has_references,
        score=lambda predictions: score_bleu(predictions, tokenizer),
    )


BLEU_METRIC = bleu_metric("13a")
CHRF_METRIC = Metric(
    name="chrf",
    title="chrF2",
    unit="percent",
    higher_is_better=True,
    formula="Corpus chrF2 (sacreBLEU): F-score, beta 2, of character 1- to 6-grams",
    needs=has_references,
    score=score_chrf,
)
