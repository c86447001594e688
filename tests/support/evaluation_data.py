"""Predictions made for tests: small builders and a seeded pair of systems."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

from contracts.predictions import Prediction
from evaluation.predictions import SystemPredictions

SENTENCE = "the order was sent to your address and will arrive within three working days after payment"
WORDS = SENTENCE.split()


def predictions(answers: Iterable[str], references: Iterable[list[str]]) -> list[Prediction]:
    return [
        Prediction(id=f"{number:04}", prediction=answer, references=right)
        for number, (answer, right) in enumerate(zip(answers, references, strict=True))
    ]


def sentence(generator: random.Random, longest: int = 18) -> str:
    return " ".join(generator.choice(WORDS) for _ in range(generator.randint(1, longest)))


def damaged(generator: random.Random, text: str, share: float) -> str:
    return " ".join(word for word in text.split() if generator.random() > share)


def system(
    name: str, *, loss: float, items: int = 120, seed: int = 7, speed: float = 1.0, failing: int = 0
) -> SystemPredictions:
    """A system that drops a share of the words; the references depend on the item alone."""
    own = random.Random(f"{name}{seed}")
    rows = []
    for number in range(items):
        item = random.Random(f"item{number}")
        right = sentence(item)
        tokens = item.randint(5, 30)
        first = own.uniform(50, 100) * speed
        fails = number < failing
        rows.append(
            Prediction(
                id=f"q{number:04}",
                prompt=f"Question {number}?",
                references=[right],
                prediction="" if fails else damaged(own, right, loss),
                slice="short" if len(right) < 40 else "long",
                ttft_ms=first,
                duration_ms=first + tokens * 20 * speed,
                completion_tokens=tokens,
                error="timed out" if fails else None,
            )
        )
    return SystemPredictions(name, tuple(rows), "0" * 64)


def write_lines(path: Path, rows: Iterable[Prediction | dict[str, object] | str]) -> Path:
    lines = [
        row
        if isinstance(row, str)
        else row.model_dump_json(exclude_none=True)
        if isinstance(row, Prediction)
        else json.dumps(row)
        for row in rows
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
