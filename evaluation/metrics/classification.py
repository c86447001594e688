"""Accuracy, precision, recall, F1 and ROC-AUC, with scikit-learn's definitions.

The classes are those of the right labels; an answer outside them is wrong for its item and counts for no
class, so a model that makes up class names does not change the list of classes. This is scikit-learn with
`labels=sorted(set(y_true))` and `zero_division=0`; tests hold them equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from contracts.predictions import Prediction
from evaluation.metrics.base import Metric, Scores, mean_scores
from evaluation.statistics.estimators import AucEstimator, Floats, SumEstimator

Part = Literal["precision", "recall", "f1"]
Average = Literal["macro", "micro", "weighted"]


def predicted_class(prediction: Prediction) -> str | None:
    """The answer without surrounding white space; None for a failed item."""
    return prediction.prediction.strip() if prediction.error is None else None


def classes_of(predictions: Sequence[Prediction]) -> list[str]:
    """The right labels in order."""
    return sorted({prediction.label for prediction in predictions if prediction.label is not None})


def part_from_sums(sums: Floats, part: Part, average: Average) -> Floats:
    """The averaged score of rows that hold per class [true positives, predicted, actual], class after class.

    A macro or weighted average leaves out classes that a resample does not hold.
    """
    hits, predicted, actual = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]
    if average == "micro":
        hits, predicted, actual = (column.sum(axis=1, keepdims=True) for column in (hits, predicted, actual))
    below = {"precision": predicted, "recall": actual, "f1": (predicted + actual) / 2}[part]
    with np.errstate(divide="ignore", invalid="ignore"):
        by_class = np.where(below > 0, hits / below, 0.0)
        weights = actual if average == "weighted" else (actual > 0).astype(np.float64)
        result: Floats = (by_class * weights).sum(axis=1) / weights.sum(axis=1)
    return result


def score_auc(predictions: Sequence[Prediction]) -> Scores:
    """ROC-AUC from `label_scores`; a class without a score for an item scores lowest there."""
    classes = classes_of(predictions)
    scores = [[(one.label_scores or {}).get(name, -np.inf) for name in classes] for one in predictions]
    positive = [[one.label == name for name in classes] for one in predictions]
    return Scores(AucEstimator(np.array(scores), np.array(positive)), None, len(predictions))


def _has_label(prediction: Prediction) -> bool:
    return prediction.label is not None


def _part_metric(part: Part, average: Average) -> Metric:
    def score(predictions: Sequence[Prediction]) -> Scores:
        classes = classes_of(predictions)
        rows = [
            [count for name in classes for count in (given == name == right, given == name, right == name)]
            for given, right in ((predicted_class(one), one.label) for one in predictions)
        ]
        statistics = np.array(rows, dtype=np.float64)
        estimator = SumEstimator(statistics, lambda sums: part_from_sums(sums, part, average))
        return Scores(estimator, None, len(predictions))

    name = "F1" if part == "f1" else part.capitalize()
    return Metric(
        name=f"{part}_{average}",
        title=f"{average.capitalize()} {name if part == 'f1' else part}",
        unit="fraction",
        higher_is_better=True,
        formula=f"{name} per class, {_AVERAGES[average]}",
        needs=_has_label,
        score=score,
    )


_AVERAGES: dict[Average, str] = {
    "macro": "mean over classes",
    "micro": "from counts summed over classes",
    "weighted": "mean over classes weighted by how often each is right",
}
_PARTS: tuple[Part, ...] = ("precision", "recall", "f1")
ACCURACY = Metric(
    name="accuracy",
    title="Accuracy",
    unit="fraction",
    higher_is_better=True,
    formula="Share of answers that name the right class",
    needs=_has_label,
    score=lambda predictions: mean_scores(
        [float(predicted_class(one) == one.label) for one in predictions], binary=True
    ),
)
ROC_AUC = Metric(
    name="roc_auc",
    title="ROC-AUC",
    unit="fraction",
    higher_is_better=True,
    formula="Area under the ROC curve, one class against the rest, mean over classes; ties count half",
    needs=lambda prediction: _has_label(prediction) and prediction.label_scores is not None,
    score=score_auc,
)
CLASSIFICATION_METRICS = (
    ACCURACY,
    *(_part_metric(part, average) for average in _AVERAGES for part in _PARTS),
    ROC_AUC,
)
