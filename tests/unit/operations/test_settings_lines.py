"""Lines that a command writes into a settings file: the value changes, and nothing else of the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from infra.settings.loader import FOLDER, load
from operations.progress import CommandError
from operations.settings_lines import shown, with_value, write_lines

LINES = {
    "model": {
        "version": "llama-1a2b",
        "source": "s3://artefacts-of-prod/models/llama/1a2b/",
        "size_gb": 16.07,
    }
}


@pytest.mark.parametrize("env", ["prod", "staging", "dev"])
def test_the_values_are_there_and_every_comment_and_line_stays(tmp_path: Path, env: str) -> None:
    path = tmp_path / f"{env}.yaml"
    shutil.copy(FOLDER / path.name, path)
    before = path.read_text().splitlines()
    write_lines(path, LINES)
    after = path.read_text().splitlines()
    model = load(env, tmp_path).model
    assert (model.version, model.source, model.size_gb) == tuple(LINES["model"].values())
    changed = [line for line in after if line not in before]
    assert len(changed) == 3
    assert [line for line in before if line.lstrip().startswith("#")] == [
        line for line in after if line.lstrip().startswith("#")
    ]
    # Written again nothing changes.
    write_lines(path, LINES)
    assert path.read_text().splitlines() == after


def test_a_file_that_would_not_load_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "prod.yaml"
    shutil.copy(FOLDER / "prod.yaml", path)
    before = path.read_bytes()
    with pytest.raises(CommandError, match="stays as it was"):
        write_lines(path, {"model": {"source": "not an address"}})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model:\n  name: x\nendpoint: {}\n", "model:\n  name: x\n  source: s3://b/\nendpoint: {}\n"),
        (
            "model:\n    name: x   # why\n\n# more\n",
            "model:\n    name: x   # why\n    source: s3://b/\n\n# more\n",
        ),
        ("model:\n  name: x", "model:\n  name: x\n  source: s3://b/\n"),
        ("model:\n  source: 'old'  # edit\n", "model:\n  source: s3://b/  # edit\n"),
        ('a: 1\nmodel:\n  source: "s3://ü/" # é\n  n: 1\n', "a: 1\nmodel:\n  source: s3://b/ # é\n  n: 1\n"),
    ],
)
def test_a_key_is_replaced_where_it_stands_or_added_to_its_section(text: str, expected: str) -> None:
    assert with_value(text, "model", "source", "s3://b/") == expected


@pytest.mark.parametrize("value", ["1.10", "yes", "2026-01-01", "null", "plain", 3, 0.5])
def test_a_value_is_read_back_as_what_it_was(value: str | float) -> None:
    text = with_value("model:\n  name: x\n", "model", "version", value)
    assert yaml.safe_load(text)["model"]["version"] == value
    assert yaml.safe_load(shown({"model": {"version": value}}))["model"]["version"] == value


@pytest.mark.parametrize(
    "text", ["model: {name: x}\n", "other:\n  a: 1\n", "[1]\n", "model:\n  source: [a]\n"]
)
def test_what_cannot_be_written_safely_is_left_to_the_operator(text: str) -> None:
    with pytest.raises(CommandError, match="by hand"):
        with_value(text, "model", "source", "s3://b/")
