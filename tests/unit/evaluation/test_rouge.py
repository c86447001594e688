"""ROUGE and its stemmer against the packages that define the published figures."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer

from evaluation.metrics.porter import stem
from evaluation.metrics.rouge import ROUGE_METRICS, rouge
from tests.support.evaluation_data import predictions

KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
TEXTS = st.lists(
    st.sampled_from(
        ["the", "cats", "sat", "sitting", "on", "mats", "Naïve", "it's", "2", "\n", "relational", ". "]
    ),
    max_size=25,
).map(" ".join)
ENDINGS = (
    "ational tional enci anci izer bli alli entli eli ousli ization ation ator alism iveness fulness ousness "
    "aliti iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ence er ic able ible ant "
    "ement ment ent ion sion tion ou ism ate iti ous ive ize e ll y s ss sses ies ied eed ed ing at bl iz"
)


@pytest.mark.parametrize("stemming", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@given(reference=TEXTS, prediction=TEXTS)
def test_equals_rouge_score_to_the_last_digit(kind, stemming, reference, prediction):
    expected = RougeScorer([kind], use_stemmer=stemming).score(reference, prediction)[kind]

    assert tuple(rouge(kind, reference, prediction, stemming)) == tuple(expected)


def test_best_reference_counts_as_in_rouge_score():
    references = ["a cat sat here", "the dog sat on the mat", "mat"]
    scorer = RougeScorer(KINDS)

    for kind, metric in zip(KINDS, ROUGE_METRICS, strict=True):
        expected = scorer.score_multi(references, "the cat sat on the mat")[kind].fmeasure
        items = metric.score(predictions(["the cat sat on the mat"], [references])).items
        assert list(items) == [expected]


def test_stems_like_nltk():
    generator = random.Random(0)
    peer = PorterStemmer()
    words = {
        "".join(generator.choice("aeiouybdglstvz") for _ in range(generator.randint(0, 6))) + ending
        for ending in ENDINGS.split()
        for _ in range(150)
    } | {"skies", "dying", "news", "inning", "proceed", "feed", "agreed", "sky", "happy", "geology", "flies"}

    different = [word for word in words if word and stem(word) != peer.stem(word)]

    assert len(words) > 4000
    assert different == []


@given(TEXTS, TEXTS)
def test_precision_and_recall_swap_with_the_texts(first, second):
    for kind in ("rouge1", "rouge2", "rougeL"):
        forward, backward = rouge(kind, first, second), rouge(kind, second, first)
        assert (forward.precision, forward.recall) == (backward.recall, backward.precision)
        assert 0 <= forward.f1 <= 1
