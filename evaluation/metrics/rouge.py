"""ROUGE-1, -2, -L and -Lsum by the package `rouge-score`.

Source: C.-Y. Lin, ROUGE: a Package for Automatic Evaluation of Summaries, 2004. `rouge-score` follows
ROUGE-1.5.5: ASCII alphanumeric tokens, no stemming here, F with beta 1. Sentences of ROUGE-Lsum are lines.
Words of other scripts, which it drops, count here (`words.rouge_words`); Latin letters score the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Literal

from evaluation.metrics.base import Metric, best_reference, has_references, mean_scores
from evaluation.metrics.words import rouge_words

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

Kind = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]


class _Words:
    """rouge-score's interface of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        return rouge_words(text)


@cache
def _scorer(kind: Kind) -> RougeScorer:
    # The import loads NLTK, which takes longer than all of `evaluation`: only who asks for ROUGE pays for it.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], tokenizer=_Words())


def rouge_f1(kind: Kind, reference: str, prediction: str) -> float:
    """F1, from 0 to 1, of one answer against one reference."""
    return float(_scorer(kind).score(reference, prediction)[kind].fmeasure)


def _metric(kind: Kind, title: str, formula: str) -> Metric:
    score: Callable[[str, str], float] = lambda reference, prediction: rouge_f1(kind, reference, prediction)  # noqa: E731
    return Metric(
        name=kind.lower().replace("rouge", "rouge_"),
        title=title,
        unit="fraction",
        higher_is_better=True,
        formula=f"{formula}; best reference, mean over items (rouge-score, no stemming)",
        needs=has_references,
        score=lambda predictions: mean_scores(best_reference(score)(predictions)),
    )


ROUGE_METRICS = (
    _metric("rouge1", "ROUGE-1", "F1 of common words"),
    _metric("rouge2", "ROUGE-2", "F1 of common word pairs"),
    _metric("rougeL", "ROUGE-L", "F1 of the longest common subsequence"),
    _metric("rougeLsum", "ROUGE-Lsum", "F1 of the union of longest common subsequences by line"),
)
