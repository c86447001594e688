"""The guards' state within one request: what they report, and the masks that come off again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lambdas.pipeline.guards.base import Finding, GuardReport
from lambdas.pipeline.guards.vault import Vault
from lambdas.runtime.tracing import Span, Trace


@dataclass
class GuardSession:
    """Shared by the guards of the prompt and of the answer."""

    report: GuardReport
    trace: Trace
    vault: Vault = field(default_factory=Vault)
    _of_answer: Span | None = None

    def note(self, findings: list[Finding]) -> list[Finding]:
        """Keep findings for the record and the metrics; returns them."""
        self.report.findings += findings
        return findings

    @contextmanager
    def span_of_prompt(self) -> Iterator[None]:
        """Around the checks of a prompt."""
        span = self.trace.begin("guard prompt")
        try:
            yield
        finally:
            self.trace.end(span, None if self.report.blocked_by is None else "content_filter")

    @contextmanager
    def span_of_answer(self) -> Iterator[None]:
        """Around each check of an answer: one span from the first check to the last."""
        if self._of_answer is None:
            self._of_answer = self.trace.begin("guard answer")
        try:
            yield
        finally:
            self.trace.end(self._of_answer)
