"""What clients saw, judged, and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.clients.features import FEATURES

_DOCUMENTED = "send text instead of token ids"
INTRODUCTION = """# Clients

Applications' own libraries against the laptop cloud, each in the version that its lock file names.
`make clients` drives them all against the cloud that `make up` started, and writes this page (tests/clients).

✓ the client got what tests/clients/features.py asks for · ✗ it did not ·
– a limit of the client's, or one that docs/api.md names

"""


@dataclass
class Row:
    """One client: a mark for each feature, and the words behind each mark that is not ✓."""

    name: str
    versions: str
    marks: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        return [feature for feature, mark in self.marks.items() if mark == "✗"]


def judged(name: str, lines: Sequence[Mapping[str, Any]]) -> Row:
    """A client's row. A feature that its program neither tries nor calls a limit is ✗."""
    told = lines[0]["versions"] if lines else {}
    versions = ", ".join(f"{package} {version}" for package, version in told.items())
    row = Row(name, versions)
    seen = {line["feature"]: {k: v for k, v in line.items() if k != "feature"} for line in lines[1:]}
    for feature, rule in FEATURES.items():
        mark, reason = _judgement(feature, seen, rule)
        row.marks[feature] = mark
        if reason:
            row.reasons[feature] = reason
    for feature in seen.keys() - FEATURES.keys():
        raise ValueError(f"{name} tells of '{feature}', which nobody judges")
    return row


def _judgement(feature: str, seen: Mapping[str, Any], rule: Any) -> tuple[str, str | None]:
    told = seen.get(feature)
    if told is None:
        return "✗", "not tried"
    if "limit" in told:
        return "–", told["limit"]
    if _DOCUMENTED in told.get("failed", ""):
        return "–", f"refused with the remedy, as docs/api.md says: {told['failed']}"
    if "failed" in told:
        return "✗", told["failed"]
    problem = rule(told, seen)
    return ("✗", problem) if problem else ("✓", None)


def markdown(rows: Sequence[Row]) -> str:
    """The table, and what its numbers stand for."""
    notes: list[str] = []
    lines = [["client", *FEATURES], ["---"] * (len(FEATURES) + 1)]
    lines += [[f"{row.name}<br>{row.versions}", *_cells(row, notes)] for row in rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([table, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1))])


def _cells(row: Row, notes: list[str]) -> Iterable[str]:
    """The marks of a row; a reason that was given before keeps its number."""
    for feature, mark in row.marks.items():
        reason = row.reasons.get(feature)
        if reason is None:
            yield mark
            continue
        words = " ".join(reason.split())[:300]
        if words not in notes:
            notes.append(words)
        yield f"{mark} [{notes.index(words) + 1}]"


def document(table: str) -> str:
    """The page that holds the table."""
    return INTRODUCTION + table + "\n"
