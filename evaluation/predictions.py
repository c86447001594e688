"""Reading predictions files: every line checked, the first mistake named with file and line.

Also pairs two systems' files over the same items, and digests what they have in common.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from contracts.predictions import Prediction

MAX_LINE_BYTES = 4_000_000


class InputError(Exception):
    """A predictions file cannot be used; the message names file, line and what to change."""


@dataclass(frozen=True)
class SystemPredictions:
    """One system's answers, in order of id."""

    name: str
    predictions: tuple[Prediction, ...]
    digest: str


def read_predictions(path: Path, name: str) -> SystemPredictions:
    """Read one JSON Lines file; blank lines are skipped. Raises InputError for the first mistake."""
    content = _read(path)
    predictions = _parse_lines(content, path, Prediction.model_validate_json)
    predictions.sort(key=lambda one: one.id)
    return SystemPredictions(name, tuple(predictions), hashlib.sha256(content).hexdigest())


def read_dataset(path: Path) -> list[Prediction]:
    """Read an evaluation set: the same lines without answers, each with a prompt; in the file's order."""

    def parse(line: bytes) -> Prediction:
        row = json.loads(line)
        if not isinstance(row, dict) or not row.get("prompt"):
            raise ValueError("an evaluation set needs a prompt on every line")
        return Prediction.model_validate({**row, "prediction": ""})

    return _parse_lines(_read(path), path, parse)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _parse_lines(content: bytes, path: Path, parse: Callable[[bytes], Prediction]) -> list[Prediction]:
    content = content.removeprefix(codecs.BOM_UTF8)
    lines: dict[str, int] = {}
    predictions = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        if len(line) > MAX_LINE_BYTES:
            raise InputError(f"{place}: the line is longer than {MAX_LINE_BYTES} bytes")
        try:
            prediction = parse(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{place}: {field + ': ' if field else ''}{first['msg']}") from error
        except ValueError as error:
            raise InputError(f"{place}: {error}") from error
        if prediction.id in lines:
            raise InputError(f"{place}: id '{prediction.id}' is already on line {lines[prediction.id]}")
        lines[prediction.id] = number
        predictions.append(prediction)
    if not predictions:
        raise InputError(f"{path}: holds no items")
    return predictions


def check_pairing(baseline: SystemPredictions, candidate: SystemPredictions) -> None:
    """Two systems must have answered the same items. Raises InputError naming the first item that differs."""
    by_id = {one.id: one for one in baseline.predictions}
    for one in candidate.predictions:
        other = by_id.pop(one.id, None)
        if other is None:
            raise InputError(f"item '{one.id}' of {candidate.name} is missing from {baseline.name}")
        for field in ("prompt", "references", "label", "slice", "group"):
            if getattr(one, field) != getattr(other, field):
                raise InputError(
                    f"item '{one.id}': {field} differs between {baseline.name} and {candidate.name}; "
                    "a paired comparison needs the same evaluation set"
                )
    if by_id:
        raise InputError(f"item '{min(by_id)}' of {baseline.name} is missing from {candidate.name}")


def dataset_digest(predictions: Sequence[Prediction]) -> str:
    """SHA-256, in hex, of what was asked and what would be right, in order of id; answers do not matter."""
    digest = hashlib.sha256()
    for one in sorted(predictions, key=lambda one: one.id):
        row = [one.id, one.prompt, one.references, one.label, one.slice, one.group]
        digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
