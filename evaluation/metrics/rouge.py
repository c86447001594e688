"""ROUGE-1, -2, -L and -Lsum, equal to the `rouge-score` package to the last digit.

Source: C.-Y. Lin, ROUGE: a Package for Automatic Evaluation of Summaries, 2004, with the conventions of
`rouge-score` (and so of ROUGE-1.5.5): ASCII alphanumeric tokens, optional Porter stemming of words longer
than three letters, F with beta 1, the reference with the highest F counts. Sentences of -Lsum are lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

from evaluation.metrics.base import Metric, best_reference, has_references, mean_scores
from evaluation.metrics.porter import stem

Kind = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_NOT_A_TOKEN = re.compile(r"[^a-z0-9]+")


class Rouge(NamedTuple):
    """Precision, recall and their harmonic mean, each from 0 to 1."""

    precision: float
    recall: float
    f1: float


def tokens(text: str, stemming: bool = False) -> list[str]:
    """Lower-case runs of a-z and 0-9, stemmed on request where longer than three letters.

    >>> tokens("The cats' 2 toys", stemming=True)
    ['the', 'cat', '2', 'toy']
    """
    words = [word for word in _NOT_A_TOKEN.split(text.lower()) if word]
    return [stem(word) if len(word) > 3 else word for word in words] if stemming else words


def rouge(kind: Kind, reference: str, prediction: str, stemming: bool = False) -> Rouge:
    """One ROUGE score of one answer against one reference.

    >>> rouge("rouge1", "the cat sat", "the cat")
    Rouge(precision=1.0, recall=0.6666666666666666, f1=0.8)
    """
    if kind == "rougeLsum":
        return _summary(_sentences(reference, stemming), _sentences(prediction, stemming))
    wanted, given = tokens(reference, stemming), tokens(prediction, stemming)
    if kind == "rougeL":
        return _rouge(_common_length(wanted, given), len(wanted), len(given))
    order = int(kind[-1])
    wanted_grams, given_grams = _grams(wanted, order), _grams(given, order)
    common = sum((wanted_grams & given_grams).values())
    return _rouge(common, wanted_grams.total(), given_grams.total())


def _rouge(hits: int, wanted: int, given: int) -> Rouge:
    precision, recall = hits / max(given, 1), hits / max(wanted, 1)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return Rouge(precision, recall, f1)


def _grams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def _common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table held as bits of one integer.

    Source: Hyyrö 2004, Bit-parallel LCS-length computation revisited. A zero bit marks a step up.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(first) - row.bit_count()


def _sentences(text: str, stemming: bool) -> list[list[str]]:
    return [tokens(line, stemming) for line in text.split("\n") if line]


def _summary(wanted: Sequence[Sequence[str]], given: Sequence[Sequence[str]]) -> Rouge:
    """ROUGE-Lsum: per reference sentence the union of its common subsequences; no token counts twice."""
    if len(wanted) == len(given) == 1:  # one line each: the union is the one common subsequence
        return _rouge(_common_length(wanted[0], given[0]), len(wanted[0]), len(given[0]))
    left_wanted = Counter(word for sentence in wanted for word in sentence)
    left_given = Counter(word for sentence in given for word in sentence)
    wanted_total, given_total = left_wanted.total(), left_given.total()
    hits = 0
    for sentence in wanted:
        union = sorted({place for other in given for place in _common_places(sentence, other)})
        for word in (sentence[place] for place in union):
            if left_given[word] > 0 and left_wanted[word] > 0:
                hits += 1
                left_given[word] -= 1
                left_wanted[word] -= 1
    return _rouge(hits, wanted_total, given_total)


def _common_places(wanted: Sequence[str], given: Sequence[str]) -> list[int]:
    """Places in `wanted` of one longest common subsequence; of several, the one `rouge-score` reads out."""
    table = [[0] * (len(given) + 1)]
    for word in wanted:
        above, row, left = table[-1], [0], 0
        for column, other in enumerate(given):
            # no max(): this is the innermost loop of the slowest metric
            up = above[column + 1]
            left = above[column] + 1 if word == other else up if up > left else left
            row.append(left)
        table.append(row)
    places = []
    row_index, column = len(wanted), len(given)
    while row_index and column:
        if wanted[row_index - 1] == given[column - 1]:
            row_index, column = row_index - 1, column - 1
            places.append(row_index)
        elif table[row_index][column - 1] > table[row_index - 1][column]:
            column -= 1
        else:
            row_index -= 1
    return places


def _metric(kind: Kind, title: str, formula: str) -> Metric:
    score: Callable[[str, str], float] = lambda reference, prediction: rouge(kind, reference, prediction).f1  # noqa: E731
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
