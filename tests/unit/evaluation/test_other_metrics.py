"""Exact match, token F1, classification, perplexity, timings and semantic similarity."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as peer

from contracts.predictions import Prediction
from evaluation.metrics import ALL
from evaluation.metrics.classification import CLASSIFICATION_METRICS, ROC_AUC
from evaluation.metrics.operation import OPERATION_METRICS
from evaluation.metrics.perplexity import PERPLEXITY
from evaluation.metrics.qa import EXACT_MATCH, TOKEN_F1, exact_match, token_f1
from evaluation.metrics.semantic import semantic_metric
from tests.support.evaluation_data import predictions

BY_NAME = {metric.name: metric for metric in ALL}
TEXTS = st.text(alphabet="ab the,.!", max_size=30)


def value_of(metric, rows):
    return metric.score(rows).estimator.values(np.ones((1, len(rows)), dtype=np.int64))[0]


@pytest.mark.parametrize(
    ("reference", "prediction", "exact", "f1"),
    [
        ("The Eiffel Tower", "eiffel tower.", 1.0, 1.0),
        ("in 1999", "1999", 0.0, 2 / 3),
        ("yes yes no", "yes no no", 0.0, 2 / 3),
        ("the", "a", 1.0, 1.0),
        ("the", "cat", 0.0, 0.0),
        ("Denver Broncos", "Carolina Panthers", 0.0, 0.0),
    ],
)
def test_squad_scores(reference, prediction, exact, f1):
    assert exact_match(reference, prediction) == exact
    assert token_f1(reference, prediction) == pytest.approx(f1)


@given(TEXTS, TEXTS)
def test_token_f1_is_symmetric_bounded_and_at_least_exact_match(first, second):
    assert token_f1(first, second) == token_f1(second, first)
    assert exact_match(first, second) <= token_f1(first, second) <= 1
    assert token_f1(first, first) == 1


@given(st.permutations(range(6)))
def test_order_of_items_does_not_matter(order):
    rows = predictions(
        ["a cat", "dog", "", "the end", "x y", "y"], [["cat"], ["cat", "dog"], ["z"], ["end"], ["y"], ["y"]]
    )

    for metric in (EXACT_MATCH, TOKEN_F1, BY_NAME["bleu"], BY_NAME["chrf"], BY_NAME["rouge_l"]):
        assert value_of(metric, [rows[at] for at in order]) == pytest.approx(value_of(metric, rows))


def test_a_failed_item_counts_as_wrong():
    rows = [
        Prediction(id="1", prediction="right", references=["right"]),
        Prediction(id="2", prediction="right", references=["right"], error="timed out"),
    ]

    assert value_of(TOKEN_F1, rows) == value_of(EXACT_MATCH, rows) == 0.5
    assert value_of(BY_NAME["error_rate"], rows) == 0.5
    assert list(BY_NAME["bleu"].score(rows).items) == [pytest.approx(100), 0]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcx")), min_size=1, max_size=40))
def test_classification_equals_scikit_learn(pairs):
    truth, given_classes = [right for right, _ in pairs], [given_class for _, given_class in pairs]
    rows = [
        Prediction(id=str(number), prediction=f" {given_class}\n", label=right)
        for number, (right, given_class) in enumerate(pairs)
    ]
    labels = sorted(set(truth))

    assert value_of(BY_NAME["accuracy"], rows) == pytest.approx(peer.accuracy_score(truth, given_classes))
    for average in ("macro", "micro", "weighted"):
        expected = peer.precision_recall_fscore_support(
            truth, given_classes, labels=labels, average=average, zero_division=0
        )
        for part, score in zip(("precision", "recall", "f1"), expected[:3], strict=True):
            assert value_of(BY_NAME[f"{part}_{average}"], rows) == pytest.approx(score)


@pytest.mark.parametrize("classes", [2, 4])
def test_roc_auc_equals_scikit_learn_with_ties(classes):
    generator = random.Random(classes)
    names = "abcd"[:classes]
    rows, scores = [], []
    for number in range(80):
        raw = [generator.randint(1, 4) for _ in names]
        shares = [one / sum(raw) for one in raw]
        scores.append(shares)
        rows.append(
            Prediction(
                id=str(number),
                prediction="a",
                label=generator.choice(names),
                label_scores=dict(zip(names, shares, strict=True)),
            )
        )
    truth = [row.label for row in rows]
    given_scores = [one[1] for one in scores] if classes == 2 else scores
    expected = peer.roc_auc_score(truth, given_scores, multi_class="ovr")

    assert value_of(ROC_AUC, rows) == pytest.approx(expected)
    counts = np.random.default_rng(1).multinomial(80, np.full(80, 1 / 80), size=3)
    for row, value in zip(counts, ROC_AUC.score(rows).estimator.values(counts), strict=True):
        written = np.repeat(np.arange(80), row)
        again = peer.roc_auc_score(
            np.array(truth)[written], np.array(given_scores)[written], multi_class="ovr"
        )
        assert value == pytest.approx(again)


def test_roc_auc_of_one_class_is_undefined():
    rows = [Prediction(id="1", prediction="a", label="a", label_scores={"a": 1.0})]

    assert math.isnan(value_of(ROC_AUC, rows))


def test_perplexity_weighs_tokens_not_items():
    rows = [
        Prediction(id="1", prediction="", token_logprobs=[math.log(1 / 2)] * 3),
        Prediction(id="2", prediction="", token_logprobs=[math.log(1 / 32)]),
    ]

    assert value_of(PERPLEXITY, rows) == pytest.approx(4.0)
    assert PERPLEXITY.score(rows).items == pytest.approx([2.0, 32.0])


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=30),
    st.integers(0, 1000),
)
def test_timing_quantiles_equal_numpy_on_data_and_resamples(times, seed):
    rows = [Prediction(id=str(number), prediction="x", duration_ms=time) for number, time in enumerate(times)]
    counts = np.random.default_rng(seed).multinomial(len(times), np.full(len(times), 1 / len(times)), size=4)
    for metric in OPERATION_METRICS:
        if not metric.name.startswith("duration_p"):
            continue
        percent = int(metric.name.removeprefix("duration_p"))
        values = metric.score(rows).estimator.values(counts)
        for row, value in zip(counts, values, strict=True):
            assert value == pytest.approx(np.percentile(np.repeat(times, row), percent), rel=1e-9, abs=1e-9)


def test_metrics_say_what_they_need():
    bare = [Prediction(id="1", prediction="x")]
    full = [Prediction(id="1", prediction="x", references=["x"], duration_ms=3.0)]

    assert {metric.name for metric in ALL if metric.carried([bare]).any()} == {"error_rate"}
    assert {"token_f1", "bleu", "duration_p95"} <= {
        metric.name for metric in ALL if metric.carried([full]).all()
    }
    assert not any(metric.carried([full]).any() for metric in CLASSIFICATION_METRICS)


def test_metric_names_are_their_own_and_formulas_are_told():
    assert len(BY_NAME) == len(ALL)
    assert all(metric.formula and metric.title for metric in ALL)


def test_semantic_similarity_takes_the_best_reference():
    directions = {"cat": (1.0, 0.0), "dog": (0.0, 1.0), "feline": (0.8, 0.6)}
    metric = semantic_metric(lambda texts: np.array([directions[text] for text in texts]))

    rows = predictions(["feline", "cat"], [["dog", "cat"], ["dog"]])

    assert list(metric.score(rows).items) == pytest.approx([0.8, 0.0])
