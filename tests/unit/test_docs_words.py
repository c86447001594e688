"""No document brings back a word that docs/glossary.md retired, or a metaphor for a part of the product."""

from __future__ import annotations

import re

import pytest

from tests.unit.test_docs_paths import DOCUMENTS, ROOT

GLOSSARY = "docs/glossary.md"
# The glossary and the changelog name what is gone; results are written by benchmarks
CHECKED = [
    name
    for name in DOCUMENTS
    if name not in (GLOSSARY, "CHANGELOG.md") and not name.startswith("bench/results/")
]
NAME = re.compile(r"`([^`\n]+)`")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
METAPHOR = re.compile(
    r"\b(?:houses?|rooms?(?! for)|doors?|neighbours?|worlds?|people|stand-ins?|mend(?:s|ed)?)\b",
    re.IGNORECASE,
)
# Names that are right for other things: a type of CloudFormation's, a module of the laptop's SageMaker
STILL_USED = {"Table", "kinds"}
DEPRECATED = {
    "docs/api.md": {"x-request-timeout", "x-evergreen-when-busy: job", "x-evergreen-cache: <seconds>"}
}


def _retired() -> set[str]:
    """The names in the first columns of the glossary's tables of retired words."""
    tables = (ROOT / GLOSSARY).read_text().split("\n## Retired words")[1]
    names = {
        name for cell in re.findall(r"^\| (.+?) \|", tables, re.MULTILINE) for name in NAME.findall(cell)
    }
    return names - STILL_USED


def test_the_glossary_retires_words() -> None:
    assert {"Exchange", "jobs-dead", "stand_in_failed"} <= _retired()


@pytest.mark.parametrize("document", CHECKED)
def test_no_retired_name_is_used(document: str) -> None:
    spans = NAME.findall(FENCED.sub("", (ROOT / document).read_text()))
    used = {
        name
        for name in _retired() - DEPRECATED.get(document, set())
        if any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", span) for span in spans)
    }
    assert not sorted(used)


@pytest.mark.parametrize("document", CHECKED)
def test_no_part_of_the_product_has_a_metaphor(document: str) -> None:
    lines = (ROOT / document).read_text().splitlines()
    assert not [line for line in lines if METAPHOR.search(line)]
