"""Reads raw support pairs from JSON Lines, one complaint per bad line that names file and line.

Knows the raw format and what to do with a bad line; knows nothing of splits, cards or models.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from contracts.artefact import file_sha256
from contracts.training import FileDigest, SupportPair
from model_code.training.cleaning import (
    fill_placeholders,
    find_personal_data,
    find_placeholder,
    mask_personal_data,
    normalise,
)

MAX_TEXT_CHARACTERS = 32_768


class DataError(Exception):
    """Training data that must not be used; the message names file, line and what to change."""


class Treatment(BaseModel):
    """What to do with a line that is not fit: stop with an error, drop and count it, or repair it.

    `placeholder: fill` writes a hole's own name in plain words. `personal_data: mask` repairs prompts
    only: an answer holding personal data is dropped, since a model would learn to say it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    broken: Literal["reject", "drop"] = "reject"
    empty: Literal["reject", "drop"] = "reject"
    too_long: Literal["reject", "drop"] = "reject"
    placeholder: Literal["reject", "drop", "fill"] = "reject"
    personal_data: Literal["reject", "drop", "mask"] = "reject"


class _RawPair(BaseModel):
    """A line as it comes: extra columns are ignored, users and groups may be missing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str | None = None
    user: str | None = None
    group: str | None = None
    intent: str = ""
    prompt: str = Field(validation_alias=AliasChoices("prompt", "instruction"))
    answer: str = Field(validation_alias=AliasChoices("answer", "response"))


class _UnusableRecordError(Exception):
    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(advice)
        self.reason = reason


@dataclass
class RawData:
    """What was read: the fit pairs in order, the digests of the files, and counts by reason."""

    pairs: list[SupportPair] = field(default_factory=list)
    sources: list[FileDigest] = field(default_factory=list)
    rows_read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)


def jsonl_files(path: Path) -> list[Path]:
    """The file itself, or a folder's `*.jsonl` files by name. Raises DataError when there is none."""
    files = [path] if path.is_file() else sorted(path.rglob("*.jsonl"))
    if not files:
        raise DataError(f"{path}: no .jsonl file found")
    return files


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers (from 1) and lines of a file, blank lines left out."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, line


def pseudonym(user: str) -> str:
    """A stable name for a user that does not show who it is to a reader of the data set."""
    return "u-" + hashlib.sha256(user.encode()).hexdigest()[:16]


def _parse(line: bytes) -> _RawPair:
    try:
        return _RawPair.model_validate(json.loads(line))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _UnusableRecordError("broken", f"not a JSON object in UTF-8 ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "line"
        raise _UnusableRecordError("broken", f"{where}: {first['msg']}") from None


def _cleaned(name: str, text: str, treatment: Treatment, masked: Counter[str]) -> str:
    """The text of one field, normalised and repaired as the treatment allows. Raises _UnusableRecordError."""
    text = normalise(text)
    if not text:
        raise _UnusableRecordError("empty", f"{name} is empty")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise _UnusableRecordError(
            "too_long", f"{name} has {len(text)} characters, at most {MAX_TEXT_CHARACTERS} are used"
        )
    if hole := find_placeholder(text):
        if treatment.placeholder != "fill":
            raise _UnusableRecordError("placeholder", f"{name} holds the unfilled placeholder {hole}")
        text = fill_placeholders(text)
        masked["placeholder"] += 1
    if kind := find_personal_data(text):
        if treatment.personal_data != "mask" or name == "answer":
            raise _UnusableRecordError("personal_data", f"{name} holds personal data ({kind})")
        text = mask_personal_data(text)
        masked["personal_data"] += 1
    return text


def _fit_pair(line: bytes, default_id: str, treatment: Treatment, masked: Counter[str]) -> SupportPair:
    raw = _parse(line)
    own_masked: Counter[str] = Counter()  # a line that is dropped in the end is not counted as masked
    identifier = raw.id or default_id
    pair = SupportPair(
        id=identifier,
        user=pseudonym(raw.user or f"row {identifier}"),
        group=raw.group or identifier,
        intent=raw.intent,
        prompt=_cleaned("prompt", raw.prompt, treatment, own_masked),
        answer=_cleaned("answer", raw.answer, treatment, own_masked),
    )
    masked.update(own_masked)
    return pair


def read_pairs(paths: Sequence[Path], treatment: Treatment) -> RawData:
    """All fit pairs of the files, with counts of what was dropped or repaired.

    Raises DataError at the first bad line whose treatment is `reject`, naming file, line, reason and
    the setting that would drop it instead; the line's own text is never quoted.
    """
    data = RawData()
    for path in (file for given in paths for file in jsonl_files(given)):
        rows = 0
        for number, line in lines_of(path):
            rows += 1
            try:
                data.pairs.append(_fit_pair(line, f"{path.stem}-{number}", treatment, data.masked))
            except _UnusableRecordError as unfit:
                # An answer that cannot be masked is dropped, under the setting that asked for masking.
                if getattr(treatment, unfit.reason) == "reject":
                    raise DataError(
                        f"{path.name} line {number}: {unfit}. Correct the line, "
                        f"or set {unfit.reason} to drop to leave such lines out"
                    ) from None
                data.dropped[unfit.reason] += 1
        data.rows_read += rows
        data.sources.append(FileDigest(name=path.name, sha256=file_sha256(path), rows=rows))
    if not data.pairs:
        raise DataError(f"none of the {data.rows_read} lines read is fit to train on")
    return data


def read_texts(paths: Sequence[Path]) -> tuple[list[str], list[FileDigest]]:
    """Every text of the evaluation sets given: each string of 3 words or more in any field of any line."""
    texts: list[str] = []
    digests = []
    for path in (file for given in paths for file in jsonl_files(given)):
        rows = 0
        for number, line in lines_of(path):
            rows += 1
            try:
                item = json.loads(line)
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                raise DataError(f"{path.name} line {number}: not JSON in UTF-8 ({error})") from None
            texts.extend(text for text in _strings(item) if len(text.split()) >= 3)
        digests.append(FileDigest(name=path.name, sha256=file_sha256(path), rows=rows))
    return texts, digests


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
