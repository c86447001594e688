"""Masks that come off again within one request: an answer may carry the caller's own data back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from lambdas.pipeline.guards.base import Action, Finding

_PLACEHOLDER = re.compile(r"\[([A-Z_]+)_\d{1,6}\]")


@dataclass
class Vault:
    """Placeholders such as `[EMAIL_1]` and what they stand for; the same value always gets the same one."""

    _value_of: dict[str, str] = field(default_factory=dict)
    _placeholder_of: dict[str, str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def mask(self, text: str, findings: list[Finding]) -> str:
        """The text with each finding to be masked replaced by a placeholder that `unmask` knows."""
        return _replace(text, findings, lambda finding, value: self._placeholder(finding.label, value))

    def mask_for_good(self, text: str, findings: list[Finding]) -> str:
        """The text with each finding replaced by its label; the caller's own values stay."""
        return _replace(
            text,
            findings,
            lambda finding, value: value if value in self._placeholder_of else f"[{finding.label.upper()}]",
        )

    def unmask(self, text: str) -> str:
        """The text with every placeholder made here replaced by what it stands for."""
        return _PLACEHOLDER.sub(lambda match: self._value_of.get(match[0], match[0]), text)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was masked here."""
        return not self._value_of

    def labelled(self, text: str) -> str:
        """The text with what was masked here as its label alone, whether it is masked in it or not."""
        for value in sorted(self._placeholder_of, key=len, reverse=True):
            text = text.replace(value, self._placeholder_of[value])
        return _PLACEHOLDER.sub(
            lambda match: f"[{match[1]}]" if match[0] in self._value_of else match[0], text
        )

    def _placeholder(self, label: str, value: str) -> str:
        if value not in self._placeholder_of:
            number = self._counts[label] = self._counts.get(label, 0) + 1
            placeholder = f"[{label.upper()}_{number}]"
            self._placeholder_of[value] = placeholder
            self._value_of[placeholder] = value
        return self._placeholder_of[value]


def _replace(text: str, findings: list[Finding], replacement: Callable[[Finding, str], str]) -> str:
    pieces: list[str] = []
    position = 0
    for finding in sorted(findings, key=lambda each: each.start):
        if finding.action is Action.MASK and finding.start >= position:
            pieces += [
                text[position : finding.start],
                replacement(finding, text[finding.start : finding.end]),
            ]
            position = finding.end
    return "".join([*pieces, text[position:]])
