"""The guards' state within one request: what they report, and the masks that come off again."""

from __future__ import annotations

from dataclasses import dataclass, field

from lambdas.pipeline.guards.base import Finding, GuardReport
from lambdas.pipeline.guards.vault import Vault


@dataclass
class GuardSession:
    """Shared by the guards of the prompt and of the answer."""

    report: GuardReport
    vault: Vault = field(default_factory=Vault)

    def note(self, findings: list[Finding]) -> list[Finding]:
        """Keep findings for the record and the metrics; returns them."""
        self.report.findings += findings
        return findings
