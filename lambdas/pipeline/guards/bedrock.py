"""Amazon Bedrock's guards: what their findings mean here. Pure; the calls themselves are handed in.

Source: Amazon Bedrock API reference, ApplyGuardrail and InvokeGuardrailChecks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from contracts.guards import GuardrailChecks
from lambdas.pipeline.guards.base import Action, Finding

_LISTS = (
    ("topicPolicy", "topics"),
    ("contentPolicy", "filters"),
    ("wordPolicy", "customWords"),
    ("wordPolicy", "managedWordLists"),
    ("sensitiveInformationPolicy", "piiEntities"),
    ("sensitiveInformationPolicy", "regexes"),
)
_NOT_A_LABEL = re.compile(r"[^A-Za-z_]+")


class BedrockGuardrail:
    """A guardrail made in Bedrock. `apply` takes a text and returns the reply of ApplyGuardrail."""

    name = "bedrock"

    def __init__(self, apply: Callable[[str], dict[str, Any]]) -> None:
        self._apply = apply

    def check(self, text: str) -> list[Finding]:
        """What it blocked or wants masked; what it only detected is no finding."""
        if not text.strip():
            return []
        reply = self._apply(text)
        if reply.get("action") != "GUARDRAIL_INTERVENED":
            return []
        return [
            finding
            for assessment in reply.get("assessments", [])
            for policy, kind in _LISTS
            for entry in assessment.get(policy, {}).get(kind, [])
            for finding in self._findings(text, entry)
        ]

    def _findings(self, text: str, entry: dict[str, Any]) -> Iterator[Finding]:
        label = _NOT_A_LABEL.sub("_", entry.get("name") or entry.get("type") or "word").strip("_").lower()
        if entry.get("action") == "BLOCKED":
            yield Finding(self.name, label, Action.BLOCK, 0, len(text))
        elif entry.get("action") == "ANONYMIZED" and entry.get("match"):
            for match in re.finditer(re.escape(entry["match"]), text):
                yield Finding(self.name, label, Action.MASK, match.start(), match.end())


class TruncatedResultError(Exception):
    """There is more personal data in a text than the service tells of."""


class BedrockScores:
    """Checks that take no guardrail: the service gives scores, `settings` say from which on they count.

    `invoke` takes a text and returns the reply of InvokeGuardrailChecks.
    """

    name = "bedrock_checks"

    def __init__(self, settings: GuardrailChecks, invoke: Callable[[str], dict[str, Any]]) -> None:
        self._settings = settings
        self._invoke = invoke

    def check(self, text: str) -> list[Finding]:
        """What it scored high enough. Raises TruncatedResultError: the rest would go unmasked."""
        if not text.strip():
            return []
        results = self._invoke(text)["results"]
        findings = [
            Finding(self.name, str(entry["category"]).lower(), Action.BLOCK, 0, len(text))
            for kind in ("contentFilter", "promptAttack")
            for entry in results.get(kind, {}).get("results", [])
            if entry["severityScore"] >= self._settings.severity
        ]
        personal = results.get("sensitiveInformation", {})
        if personal.get("truncated"):
            raise TruncatedResultError
        return findings + [
            Finding(
                self.name, str(entry["type"]).lower(), Action.MASK, entry["beginOffset"], entry["endOffset"]
            )
            for entry in personal.get("results", [])
            if entry["confidenceScore"] >= self._settings.confidence
        ]
