"""Decision records have a status and a row in the index."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
STATUS = re.compile(
    r"^\*\*Status:\*\* (accepted|accepted, not yet implemented: .+|proposed|superseded by \d+)$", re.MULTILINE
)
SECTIONS = ["Context", "Decision", "Consequences", "Alternative refused"]
ROW = re.compile(r"^\| \[(\d+)\]\((\d{4}-[\w-]+\.md)\) \| (.+) \| (.+) \|$", re.MULTILINE)


def _head(record: Path) -> str:
    """Everything above the first section, each paragraph on one line."""
    head = record.read_text().split("\n## ")[0]
    return "\n".join(" ".join(paragraph.split()) for paragraph in head.split("\n\n"))


def test_every_record_has_one_status_and_all_sections() -> None:
    assert len(RECORDS) >= 16
    for record in RECORDS:
        assert len(STATUS.findall(_head(record))) == 1, f"{record.name}: no valid status"
        assert re.findall(r"^## (.+)$", record.read_text(), re.MULTILINE) == SECTIONS, record.name


def test_numbers_are_consecutive_and_stand_in_the_titles() -> None:
    assert [int(record.name[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))
    for record in RECORDS:
        assert record.read_text().startswith(f"# {int(record.name[:4])}. "), record.name


def test_the_index_lists_every_record_with_its_title_and_state() -> None:
    rows = ROW.findall((FOLDER / "README.md").read_text())

    assert [name for _, name, _, _ in rows] == [record.name for record in RECORDS]
    for (number, _, title, state), record in zip(rows, RECORDS, strict=True):
        assert record.read_text().startswith(f"# {number}. {title}\n"), record.name
        [status] = STATUS.findall(_head(record))
        expected = "not yet implemented" if "not yet" in status else status
        assert state == expected, f"{record.name}: the index says {state}, the record {expected}"
