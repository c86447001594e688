"""Makes support pairs and files of them for the tests of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from contracts.training import SupportPair

REPOSITORY = Path(__file__).parents[2]
FIXTURES = REPOSITORY / "tests" / "fixtures" / "support"


def pair(number: int, prompt: str, answer: str = "", **fields: str) -> SupportPair:
    """A pair with a user, group and answer of its own unless given."""
    defaults = {"id": f"p{number}", "user": f"u{number}", "group": f"g{number}", "intent": ""}
    own_answer = answer or f"answer number {spelled(number)} says {spelled(number + 7)} and nothing else"
    return SupportPair(prompt=prompt, answer=own_answer, **(defaults | fields))


def spelled(number: int) -> str:
    """The number's digits as words, since shingles do not tell digits apart."""
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    return " ".join(names[int(digit)] for digit in str(number))


def write_lines(path: Path, rows: list[dict[str, Any] | str]) -> Path:
    """A JSON Lines file; a row that is a string is written as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
