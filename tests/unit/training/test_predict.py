"""The job that answers a held-out set: how long its answers may be, and which of them were cut there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from contracts.artefact import MANIFEST_NAME, describe
from contracts.predictions import Prediction
from tests.support.serving_python import PYTHON, python
from tests.support.training_data import pair, write_lines

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=f"needs the serving environment at {PYTHON}")

LENGTH = 100  # above what any default was
VOCABULARY = 258


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / "base"
    made = python("-m", "tests.support.tiny_base", str(folder))
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    rows: list[dict[str, Any] | str] = [pair(n, f"question {n}").model_dump() for n in range(3)]
    return write_lines(tmp_path / "heldout.jsonl", rows)


def ending_on(base: Path, folder: Path, tokens: int | list[int] | None) -> Path:
    """The model, whose answers end on these tokens."""
    shutil.copytree(base, folder)
    given = folder / "generation_config.json"
    given.write_text(json.dumps(json.loads(given.read_text()) | {"eos_token_id": tokens}))
    (folder / MANIFEST_NAME).unlink()
    (folder / MANIFEST_NAME).write_bytes(describe(folder, "tiny-chat").canonical())
    return folder


def answers(model: Path, heldout: Path, *options: str) -> list[Prediction]:
    output = heldout.with_name("predictions.jsonl")
    words = ["--model", str(model), "--data", str(heldout), "--output", str(output), *options]
    run = python("-m", "model_code.training.predict", *words)
    assert run.returncode == 0, run.stderr
    return [Prediction.model_validate_json(line) for line in output.read_text().splitlines()]


def test_an_answer_that_does_not_end_is_as_long_as_allowed_and_counts_as_cut(
    base: Path, heldout: Path, tmp_path: Path
) -> None:
    endless = ending_on(base, tmp_path / "endless", None)
    found = answers(endless, heldout, "--max-new-tokens", str(LENGTH))
    assert [(one.completion_tokens, one.finish_reason) for one in found] == [(LENGTH, "length")] * 3


@pytest.mark.parametrize("length", [1, LENGTH])
def test_an_answer_that_ends_by_itself_is_not_cut_even_on_the_last_token(
    base: Path, heldout: Path, tmp_path: Path, length: int
) -> None:
    brief = ending_on(base, tmp_path / "brief", list(range(VOCABULARY)))
    found = answers(brief, heldout, "--max-new-tokens", str(length))
    assert [one.finish_reason for one in found] == ["stop"] * 3
    assert max(one.completion_tokens or 0 for one in found) <= 1


def test_there_is_no_length_but_the_one_that_is_given(heldout: Path) -> None:
    words = ["--model", ".", "--data", str(heldout), "--output", "unused.jsonl"]
    run = python("-m", "model_code.training.predict", *words)
    assert run.returncode == 2
    assert "--max-new-tokens" in run.stderr
