"""A line of evidence: what somebody said about a failure, and who. Knows nothing of AWS or of causes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Source(StrEnum):
    """Who said it."""

    STACK = "stack event"
    ENDPOINT = "endpoint"
    LOG = "container log"
    DEPLOY = "deploy log"
    RELEASE = "release"
    ALARM = "alarm"
    SERVING = "what serves"
    ARTEFACT = "artefact"
    REGION = "region"
    QUOTA = "quota"
    IMAGE = "image"


MESSAGES = frozenset({Source.STACK, Source.ENDPOINT, Source.LOG, Source.DEPLOY, Source.RELEASE})
"""What AWS or a program said when it failed. The other sources are facts that were looked up afterwards."""


@dataclass(frozen=True)
class Evidence:
    """One line. `subject` is the resource, stream or file that it is about; looked-up facts have no `at`."""

    source: Source
    text: str
    subject: str = ""
    at: datetime | None = None

    @property
    def is_message(self) -> bool:
        """Whether it was said when something failed, rather than looked up."""
        return self.source in MESSAGES


@dataclass
class Findings:
    """What was found about one environment.

    `failures` names what is not as it should be, each in a few words; without one nothing failed.
    `unread` says what could not be looked at, and why.
    """

    failures: list[str] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def add(self, source: Source, text: str, subject: str = "", at: datetime | None = None) -> None:
        """Keep a line, once."""
        line = Evidence(source, text.strip(), subject, at)
        if line.text and line not in self.evidence:
            self.evidence.append(line)
