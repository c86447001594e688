"""Amazon Bedrock Guardrails as a guard: what an assessment means here. Pure; the call itself is handed in.

Source: Amazon Bedrock API reference, ApplyGuardrail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from lambdas.inference.guards.base import Action, Finding

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
