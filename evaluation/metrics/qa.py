"""Exact match and token F1 with SQuAD's normalisation, the best over an item's references.

Source: Rajpurkar et al. 2016 and the evaluation script of SQuAD 2.0, whose rule for empty texts is used:
when either text is empty after normalisation, F1 is 1 if both are and 0 otherwise. Chinese and the like, for
which SQuAD has no words, are compared by characters (`words`).
"""

from __future__ import annotations

import re
import string
from collections import Counter

from evaluation.metrics.base import Metric, best_reference, has_references, mean_scores
from evaluation.metrics.words import without_punctuation, words

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, single spaces.

    >>> normalise("The  Eiffel Tower!")
    'eiffel tower'
    """
    return " ".join(_ARTICLES.sub(" ", without_punctuation(text.lower().translate(_PUNCTUATION))).split())


def exact_match(reference: str, prediction: str) -> float:
    """1.0 where both texts are equal after normalisation."""
    return float(words(normalise(reference)) == words(normalise(prediction)))


def token_f1(reference: str, prediction: str) -> float:
    """Harmonic mean of token precision and recall, repeated tokens counted.

    >>> round(token_f1("in the year 1999", "1999"), 3)
    0.5
    """
    wanted, given = words(normalise(reference)), words(normalise(prediction))
    if not wanted or not given:
        return float(wanted == given)
    common = sum((Counter(wanted) & Counter(given)).values())
    if not common:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


EXACT_MATCH = Metric(
    name="exact_match",
    title="Exact match",
    unit="fraction",
    higher_is_better=True,
    formula="Share of answers equal to a reference after SQuAD normalisation",
    needs=has_references,
    score=lambda predictions: mean_scores(best_reference(exact_match)(predictions), binary=True),
)
TOKEN_F1 = Metric(
    name="token_f1",
    title="Token F1",
    unit="fraction",
    higher_is_better=True,
    formula="Mean over items of the best token F1 over references, SQuAD normalisation "
    "(characters where words have no blanks between)",
    needs=has_references,
    score=lambda predictions: mean_scores(best_reference(token_f1)(predictions)),
)
