"""Items to look at beside the figures: the biggest wins and losses, and a sample that nobody picked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from contracts.predictions import Prediction
from contracts.report import ExampleAnswer, ReportExample
from evaluation.measure import Answers
from evaluation.statistics.estimators import Floats

PER_KIND = 5
_MAX_CHARACTERS = 1500
_MAX_REFERENCES = 5


def pick_examples(
    answers: Answers, values: Mapping[str, Floats | None], *, higher_is_better: bool, seed: int
) -> list[ReportExample]:
    """Up to five wins, five losses (for one system: its weakest answers) and five items by lot.

    `values` holds the primary metric's item values by system, None where it has none: then all are by lot.
    """
    count = len(next(iter(answers.values())))
    columns = [values[name] for name in answers]
    picked: list[tuple[int, str]] = []
    known = [column for column in columns if column is not None]
    if len(known) == len(columns):
        gain = known[-1] - known[0] if len(known) == 2 else known[0]
        gain = np.nan_to_num(gain if higher_is_better else -gain)
        order = np.argsort(gain, kind="stable")
        if len(known) == 2:
            picked += [(int(at), "win") for at in order[::-1][:PER_KIND] if gain[at] > 0]
            picked += [(int(at), "loss") for at in order[:PER_KIND] if gain[at] < 0]
        else:
            picked += [(int(at), "loss") for at in order[:PER_KIND]]
    taken = {at for at, _ in picked}
    lot = np.random.default_rng(seed).permutation(count)
    picked += [(int(at), "sample") for at in lot if int(at) not in taken][:PER_KIND]
    return [_example(at, kind, answers, values) for at, kind in picked]


def _example(at: int, kind: str, answers: Answers, values: Mapping[str, Floats | None]) -> ReportExample:
    first: Prediction = next(iter(answers.values()))[at]
    references = first.references or ([first.label] if first.label is not None else [])
    return ReportExample.model_validate(
        {
            "id": first.id,
            "kind": kind,
            "slice": first.slice,
            "prompt": _cut(first.prompt),
            "references": [_cut(text) for text in references[:_MAX_REFERENCES]],
            "answers": [
                ExampleAnswer(
                    system=name,
                    text=_cut(items[at].prediction),
                    value=_value(values[name], at),
                    error=items[at].error,
                )
                for name, items in answers.items()
            ],
        }
    )


def _value(column: Floats | None, at: int) -> float | None:
    return None if column is None or not np.isfinite(column[at]) else float(column[at])


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"
