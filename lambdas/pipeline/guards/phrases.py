"""Blocks by phrases: topics an operator denies, and usual ways to talk a model out of its instructions.

Rules of this kind stop the common and the careless; who means it gets around them. A model-based provider
stands behind the same interface.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lambdas.pipeline.guards.base import Action, Finding, plain

_DROP = r"\b(?:ignore|disregard|forget|override|bypass)\b"
_OLD = r"\b(?:previous|prior|above|earlier|preceding|foregoing)\b"
_ORDERS = r"\b(?:instructions?|prompts?|rules|directions|directives|orders|guidelines|messages?|commands)\b"
_HIDDEN = r"\b(?:system|initial|hidden|original|secret)\b"
_SAID_IN_CONFIDENCE = (
    r"(?:pass(?:word|code|phrase)s?(?: phrase)?|secret(?: key| code| phrase| word)?s?|api keys?|credentials)"
)
_TELL = r"\b(?:tell me|give me|send me|share|reveal|confirm|provide|disclose|know|what(?: is|'s| was))\b"
_INJECTION: dict[str, Sequence[str]] = {
    "ignore_instructions": (
        rf"{_DROP}[^.!?]{{0,40}}{_OLD}[^.!?]{{0,20}}{_ORDERS}",
        rf"{_DROP} (?:all |any )?(?:of )?(?:your|the|system) (?:\w+ )?{_ORDERS}",
        rf"{_DROP} (?:all |everything |any of )?(?:of )?(?:the )?(?:above|preceding|foregoing)\b",
        rf"{_DROP} (?:everything|everthing|all|anything)(?: that)? (?:you|we|i|they)\b[^.!?]{{0,20}}"
        r"\b(?:told|said|learned|learnt|taught|read|know)\b",
        # The same in the languages that are tried most.
        r"\b(?:ignor\w+|olvid\w+|esque[cç]\w+|oubli\w+|vergiss|vergessen|dimentica\w*|αγνοήστε)\b"
        r"[^.!?]{0,30}\b(?:instruc\w+|instruç\w+|consignes|anweisungen|istruzioni|οδηγίες)\b",
        r"(?:忽略|无视|忘记).{0,8}(?:指令|指示|说明|提示)|(?:以前|前|上記)の指示を無視",
        r"이전 (?:지시|명령)\S{0,6}\s?(?:을 |를 )?무시",
    ),
    "reveal_secrets": (
        rf"{_TELL}[^.!?]{{0,20}}\b(?:your|the system's|our system's) (?:\w+ )?{_SAID_IN_CONFIDENCE}\b"
        r"(?! (?:polic|reset|manager|requirement|rule))",
        rf"{_TELL}[^.!?]{{0,20}}\bthe {_SAID_IN_CONFIDENCE} (?:for|to|of|that unlocks) (?:the|our) system\b",
    ),
    "false_authority": (
        r"\bi(?:'m| am) (?:your|the) (?:developer|creator|maker|maintainer|admin(?:istrator)?|programmer)\b",
        r"<\s*/?\s*(?:system|admin|developer|debug|root|god)[ _-]?mode\s*>",
        r"\b(?:system|security|admin) override\b[^.!?]{0,20}\b(?:confirmed|enabled|activated|engaged|code)\b",
    ),
    "reveal_instructions": (
        r"\b(?:reveal|print|repeat|show|output|leak|tell me)\b[^.!?]{0,40}"
        rf"\b(?:your|the) {_HIDDEN} {_ORDERS}",
    ),
    "change_role": (
        r"\byou are (?:now|no longer)\b[^.!?]{0,40}\b(?:dan|jailbroken|unrestricted|unfiltered)\b",
        r"\b(?:enter|enable|you are now in) developer mode\b",
        r"\bpretend (?:that )?you have no (?:restrictions|rules|guidelines|filters)\b",
        r"\bdo anything now\b|\bbroken free of the (?:typical )?confines\b",
    ),
    "control_tokens": (
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id|end_header_id)\|>",
        r"\[/?inst\]|<</?sys>>",
    ),
    # One word a hundred times and more: an attempt to make a model lose the thread.
    "repetition": (r"(?<!\S)(\S{1,40})(?: \1){99}(?!\S)",),
}


class PhraseRules:
    """Blocks a text in which one of the patterns of a label is found."""

    def __init__(self, name: str, patterns: Mapping[str, Sequence[str]]) -> None:
        self.name = name
        self._patterns = [
            (label, re.compile("|".join(f"(?:{pattern})" for pattern in alternatives)))
            for label, alternatives in patterns.items()
            if alternatives
        ]

    def check(self, text: str) -> list[Finding]:
        """At most one finding per label; it stands for the whole text, whose folded form was searched."""
        folded = plain(text)
        return [
            Finding(self.name, label, Action.BLOCK, 0, len(text))
            for label, pattern in self._patterns
            if pattern.search(folded)
        ]


def injection_rules() -> PhraseRules:
    """The usual attempts at prompt injection."""
    return PhraseRules("injection", _INJECTION)


def denied_topics(topics: Mapping[str, Sequence[str]]) -> PhraseRules:
    """Topics by name, each with the phrases that give it away; whole words, in any case and spacing."""
    return PhraseRules(
        "denied_topic",
        {
            name: [rf"(?<!\w){re.escape(plain(phrase))}(?!\w)" for phrase in phrases]
            for name, phrases in topics.items()
        },
    )
