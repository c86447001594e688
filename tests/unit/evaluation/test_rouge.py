"""ROUGE against the published definition and the package that defines the published figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from evaluation.metrics.rouge import ROUGE_METRICS
from tests.support.evaluation_data import predictions

KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
TEXTS = st.lists(
    st.sampled_from(
        ["the", "cats", "sat", "sitting", "on", "mats", "Naïve", "it's", "2", "\n", "relational", ". "]
    ),
    max_size=25,
).map(" ".join)


def values(prediction: str, references: list[str]) -> list[float]:
    """F1 of each metric for one item."""
    items = predictions([prediction], [references])
    found = [metric.score(items).items for metric in ROUGE_METRICS]
    return [float(column[0]) for column in found if column is not None]


@pytest.mark.parametrize("kind", KINDS)
@given(reference=TEXTS, prediction=TEXTS)
def test_equals_rouge_score_to_the_last_digit(kind: str, reference: str, prediction: str) -> None:
    expected = RougeScorer([kind]).score(reference, prediction)[kind].fmeasure

    assert values(prediction, [reference])[KINDS.index(kind)] == expected


def test_best_reference_counts_as_in_rouge_score() -> None:
    references = ["a cat sat here", "the dog sat on the mat", "mat"]
    expected = RougeScorer(KINDS).score_multi(references, "the cat sat on the mat")

    assert values("the cat sat on the mat", references) == [expected[kind].fmeasure for kind in KINDS]


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        # Lin 2004, section 3.1: "police kill the gunman" and "the gunman kill police" against one reference
        ("police kill the gunman", "police killed the gunman", [3 / 4, 1 / 3, 3 / 4, 3 / 4]),
        ("the gunman kill police", "police killed the gunman", [3 / 4, 1 / 3, 1 / 2, 1 / 2]),
        # By lines every common word counts, whichever line comes first; without stemming cats is not cat.
        ("b c\na", "a\nb c", [1.0, 1 / 2, 2 / 3, 1.0]),
        ("cats", "cat", [0.0, 0.0, 0.0, 0.0]),
        ("", "cat", [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_known_values(prediction: str, reference: str, expected: list[float]) -> None:
    assert values(prediction, [reference]) == pytest.approx(expected, abs=1e-15)


def test_the_package_is_loaded_only_where_rouge_is_asked_for() -> None:
    script = "import sys, evaluation.metrics; print('rouge_score' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert done.stdout.strip() == "False"
