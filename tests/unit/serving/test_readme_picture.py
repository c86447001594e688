"""The pictures in the documentation are text that a renderer must understand; this is where it stumbled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("[a-z]*/README.md")]
PICTURES = [
    pytest.param(picture, id=path.relative_to(ROOT).as_posix())
    for path in DOCUMENTS
    for picture in re.findall(r"```mermaid\n(.*?)```", path.read_text(), re.DOTALL)
]


@pytest.mark.parametrize("picture", PICTURES)
def test_no_message_ends_early(picture: str) -> None:
    """Mermaid takes a semicolon for the end of a statement, and what follows for a broken one."""
    assert picture.startswith("sequenceDiagram\n")
    assert [line for line in picture.splitlines() if ";" in line] == []
