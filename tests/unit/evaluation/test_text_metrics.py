"""BLEU and chrF against sacreBLEU, on the data and on resamples of it."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from evaluation.metrics.text import BLEU_METRIC, CHRF_METRIC, signatures
from tests.support.evaluation_data import damaged, predictions, sentence

PEERS = [(BLEU_METRIC, BLEU, "bleu"), (CHRF_METRIC, CHRF, "chrf")]


def corpus(seed, items=25, references=2):
    generator = random.Random(seed)
    rights = [[sentence(generator) for _ in range(references)] for _ in range(items)]
    return [damaged(generator, right[0], 0.3) for right in rights], rights


def peer_score(peer, answers, rights):
    return peer().corpus_score(answers, [list(column) for column in zip(*rights, strict=True)]).score


@pytest.mark.parametrize(("metric", "peer", "name"), PEERS)
@given(seed=st.integers(0, 10_000), items=st.integers(1, 12))
def test_corpus_score_equals_sacrebleu(metric, peer, name, seed, items):
    answers, rights = corpus(seed, items)

    scores = metric.score(predictions(answers, rights))

    value = scores.estimator.values(np.ones((1, items), dtype=np.int64))[0]
    assert value == pytest.approx(peer_score(peer, answers, rights), abs=1e-10)


@pytest.mark.parametrize(("metric", "peer", "name"), PEERS)
def test_a_resample_scores_as_the_corpus_written_out(metric, peer, name):
    answers, rights = corpus(3)
    counts = np.random.default_rng(5).multinomial(25, np.full(25, 1 / 25), size=20)

    values = metric.score(predictions(answers, rights)).estimator.values(counts)

    for row, value in zip(counts, values, strict=True):
        written = [index for index, count in enumerate(row) for _ in range(count)]
        expected = peer_score(
            peer, [answers[index] for index in written], [rights[index] for index in written]
        )
        assert value == pytest.approx(expected, abs=1e-10)


def test_item_values_equal_sentence_scores():
    answers, rights = corpus(11)
    rows = predictions(answers, rights)

    bleu = [
        BLEU(effective_order=True).sentence_score(a, r).score for a, r in zip(answers, rights, strict=True)
    ]
    chrf = [CHRF().sentence_score(a, r).score for a, r in zip(answers, rights, strict=True)]

    assert BLEU_METRIC.score(rows).items == pytest.approx(bleu, abs=1e-10)
    assert CHRF_METRIC.score(rows).items == pytest.approx(chrf, abs=1e-10)


@pytest.mark.parametrize(("metric", "peer", "name"), PEERS)
@pytest.mark.parametrize("answer", ["", "no common token", "the", "the order"])
def test_degenerate_answers(metric, peer, name, answer):
    rows = predictions([answer], [["the order was sent"]])

    value = metric.score(rows).estimator.values(np.ones((1, 1), dtype=np.int64))[0]

    assert value == pytest.approx(peer_score(peer, [answer], [["the order was sent"]]), abs=1e-10)


@pytest.mark.parametrize(
    ("references", "counted"), [([1, 1], "1"), ([2, 2, 2], "2"), ([2, 3], "var"), ([0, 1], "1"), ([], "1")]
)
def test_signatures_name_the_version_and_the_references(references, counted):
    found = signatures(references)
    assert found["bleu"].startswith(f"nrefs:{counted}|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert found["chrf"].startswith(f"nrefs:{counted}|")
    assert "nc:6|nw:0" in found["chrf"]
