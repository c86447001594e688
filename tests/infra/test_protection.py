"""What keeps a production environment from being deleted by mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(("env", "protected"), [("prod", True), ("local", False)])
def test_stacks_that_callers_depend_on_cannot_be_deleted(
    assembly: Callable[[str], Path], env: str, protected: bool
) -> None:
    manifest = json.loads((assembly(env) / "manifest.json").read_text())
    stacks = [one for one in manifest["artifacts"].values() if one["type"] == "aws:cloudformation:stack"]

    assert len(stacks) == 5
    assert {one["properties"].get("terminationProtection", False) for one in stacks} == {protected}
