"""The schema that editors check settings files by."""

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from infra.settings.editor_schema import render, schema

REPOSITORY = Path(__file__).parents[3]
FILES = sorted((REPOSITORY / "settings").glob("*.yaml"))


def _faults(text: str) -> list[str]:
    return [fault.message for fault in Draft202012Validator(schema()).iter_errors(yaml.safe_load(text))]


def test_the_committed_schema_is_current() -> None:
    assert (REPOSITORY / "docs" / "settings.schema.json").read_text() == render()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_environment_fits(path: Path) -> None:
    assert _faults(path.read_text()) == []


def test_a_misspelt_key_and_a_wrong_type_are_faults() -> None:
    text = FILES[0].read_text()

    assert any("ttft_mss" in fault for fault in _faults(text.replace("ttft_ms:", "ttft_mss:")))
    assert any("'soon'" in fault for fault in _faults(text.replace("ttft_ms: ", "ttft_ms: soon #")))
