"""docs/attacks.md and docs/threat_model.md name tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
OWASP = [f"LLM{number:02}" for number in range(1, 11)] + [f"API{number}" for number in range(1, 11)]


@pytest.mark.parametrize("document", ["attacks.md", "threat_model.md"])
def test_every_attack_is_met_by_a_test_that_is_there(document: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / document).read_text())
    assert len(named) > 20
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text())
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
            f"{file}::{test}"
        )


@pytest.mark.parametrize("risk", OWASP)
def test_every_risk_has_a_control_a_test_and_what_is_left(risk: str) -> None:
    rows = re.findall(rf"^\| {risk} .*$", (ROOT / "docs" / "threat_model.md").read_text(), re.MULTILINE)
    (row,) = rows
    _, _, control, shown, left, _ = (cell.strip() for cell in row.split("|"))
    assert control
    assert "::" in shown
    assert left
