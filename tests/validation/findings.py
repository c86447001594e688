"""Findings of validators, and which of them are acknowledged. Knows no validator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

ACKNOWLEDGEMENTS = Path(__file__).with_name("acknowledgements.yaml")


@dataclass(frozen=True, order=True)
class Finding:
    """What a validator says of one resource (a logical id, or a workflow's file name) of one template."""

    tool: str
    rule: str
    template: str
    resource: str
    message: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.tool} {self.rule}: {self.template} {self.resource}: {self.message}"


class Acknowledgement(BaseModel):
    """Findings of one rule that are accepted, on resources that fit a pattern (`*`, `?`, `[…]`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool: str
    rule: str
    resources: tuple[str, ...] = Field(min_length=1)
    reason: str = Field(min_length=20)

    def patterns_for(self, finding: Finding) -> set[str]:
        """The patterns of this row that a finding fits."""
        if (finding.tool, finding.rule) != (self.tool, self.rule):
            return set()
        return {pattern for pattern in self.resources if fnmatchcase(finding.resource, pattern)}


@dataclass(frozen=True)
class Judgement:
    """What is left: findings that no row accepts, and patterns of rows that no finding needs."""

    open: list[Finding]
    unused: list[str]


def load(path: Path = ACKNOWLEDGEMENTS) -> list[Acknowledgement]:
    """The rows of the file."""
    return [Acknowledgement.model_validate(row) for row in yaml.safe_load(path.read_text())]


def judge(findings: Iterable[Finding], rows: Iterable[Acknowledgement], tools: set[str]) -> Judgement:
    """Hold findings against the rows of the tools that have run.

    Args:
        findings: All findings of these tools.
        rows: Every row; those of other tools are neither used nor missed.
        tools: The names of the tools that have run.
    """
    rows = [row for row in rows if row.tool in tools]
    used: set[tuple[Acknowledgement, str]] = set()
    unaccepted: set[Finding] = set()
    for finding in findings:
        fitting = {(row, pattern) for row in rows for pattern in row.patterns_for(finding)}
        used |= fitting
        if not fitting:
            unaccepted.add(finding)
    unused = [
        f"{row.tool} {row.rule}: {pattern}"
        for row in rows
        for pattern in row.resources
        if (row, pattern) not in used
    ]
    return Judgement(sorted(unaccepted), unused)
