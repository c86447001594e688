"""Blocks by phrases: topics an operator denies, and usual ways to talk a model out of its instructions.

Rules of this kind stop the common and the careless; who means it gets around them. A model-based provider
stands behind the same interface.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from contracts.scripts import UNSPACED
from lambdas.pipeline.guards.base import Action, Finding
from lambdas.pipeline.guards.folding import plain, unmarked

_DROP = r"\b(?:ignore|disregard|forget|override|bypass)\b"
_OLD = r"\b(?:previous|prior|above|earlier|preceding|foregoing)\b"
_ORDERS = r"\b(?:instructions?|prompts?|rules|directions|directives|orders|guidelines|messages?|commands)\b"
_HIDDEN = r"\b(?:system|initial|hidden|original|secret)\b"
_SAID_IN_CONFIDENCE = (
    r"(?:pass(?:word|code|phrase)s?(?: phrase)?|secret(?: key| code| phrase| word)?s?|api keys?|credentials)"
)
_TELL = r"\b(?:tell me|give me|send me|share|reveal|confirm|provide|disclose|know|what(?: is|'s| was))\b"
# "Ignore the previous instructions" in the languages that are tried most: verb and object in the order that a
# language has them. Compared without accents, as `plain` leaves a text.
_IN_OTHER_LANGUAGES = (
    # Spanish, Portuguese, French, Italian, German, Dutch, Greek
    r"\b(?:ignor(?!e[ds]?\b|ing|ant|anc)\w+|ignore (?:las?|les?|os|as|tod[ao]s|tou(?:te)?s)|olvid\w+"
    r"|esque[cç]\w+|oubli\w+|vergiss|vergessen|missachte\w*|dimentica\w*|negeer|vergeet|αγνοήστε|αγνόησε|ξέχνα|ξεχάστε)\b"
    r"[^.!?]{0,40}\b(?:instruc\w+|instruç\w+|consignes|anweisungen|vorgaben|regeln|istruzioni|regole"
    r"|indicaciones|órdenes|reglas|regras|règles|aanwijzingen|regels|οδηγίες|εντολές)",
    # Russian, Ukrainian, Polish, Czech
    r"\b(?:про)?(?:игнорируй|забудь|отбрось|ігноруй)\w*\b[^.!?]{0,40}"
    r"\b(?:инструкци|указани|правил|команд|інструкці)",
    r"\b(?:z?ignoruj|zapomnij|zapomeň|pomiń)\w*\b[^.!?]{0,40}\b(?:instrukc|polece|zasad|pokyn|pravidl)",
    # Turkish, Vietnamese, Indonesian
    r"\b(?:talimat|komut|yönerge|kural)\w*\b[^.!?]{0,30}\b(?:yok say|görmezden gel|unut|dikkate alma)",
    r"\b(?:bỏ qua|quên|phớt lờ)\b[^.!?]{0,40}\b(?:hướng dẫn|chỉ dẫn|chỉ thị|mệnh lệnh|quy tắc)\b",
    r"\b(?:abaikan|lupakan)\b[^.!?]{0,40}\b(?:instruksi|perintah|aturan|arahan)",
    # Arabic, Hindi
    r"(?:تجاهل|انس|إنس|اهمل)\w{0,3}\b[^.!?؟]{0,30}(?:تعليمات|الأوامر|الاوامر|القواعد|التوجيهات)",
    r"(?:निर्देश|आदेश|नियम|हिदायत)\S{0,4}[^.!?।]{0,20}(?:अनदेखा|अनदेखी|नज़रअंदाज़|भूल|भुला|उपेक्षा)",
    # Chinese, Japanese, Korean
    r"(?:忽略|无视|無視|忽視|忘记|忘記|忘掉|不要理会).{0,10}(?:指令|指示|说明|說明|提示|规则|規則|命令|设定)",
    r"(?:これまで|今まで|以前|以上|前|上記|先|最初)(?:まで)?の\S{0,6}(?:指示|命令|ルール|プロンプト|設定)"
    r"\S{0,6}(?:無視|忘れ)",
    r"(?:이전|위|앞|지금까지)\S{0,2} ?(?:모든 )?\S{0,4}(?:지시|명령|규칙|프롬프트)"
    r"\S{0,6} ?(?:모두 )?(?:무시|잊)",
)
_INJECTION: dict[str, Sequence[str]] = {
    "ignore_instructions": (
        rf"{_DROP}[^.!?]{{0,40}}{_OLD}[^.!?]{{0,20}}{_ORDERS}",
        rf"{_DROP} (?:all |any )?(?:of )?(?:your|the|system) (?:\w+ )?{_ORDERS}",
        rf"{_DROP} (?:all |everything |any of )?(?:of )?(?:the )?(?:above|preceding|foregoing)\b",
        rf"{_DROP} (?:everything|everthing|all|anything)(?: that)? (?:you|we|i|they)\b[^.!?]{{0,20}}"
        r"\b(?:told|said|learned|learnt|taught|read|know)\b",
        *_IN_OTHER_LANGUAGES,
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


_DIGITS_FOR_LETTERS = re.compile(
    r"(?<![\w@$!])(?=[0-9@$!]*[a-z])(?=[a-z]*[0-9@$!])[a-z0-9@$!]{3,20}(?![\w@$])"
)
_LETTERS = str.maketrans(
    {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i"}
)
_SET_APART = re.compile(r"(?<!\w)(?:[a-z][ ._*/-]){4,200}[a-z](?!\w)")
_KNOWN_WORDS = re.compile(
    r"ignore|disregard|forget|override|bypass|all|any|of|your|the|previous|prior|above|earlier|preceding|system"
    r"|instructions?|prompts?|rules|directions|guidelines|commands|reveal|show|print"
)
_BETWEEN_UNSPACED = re.compile(rf"(?<={UNSPACED.pattern})(?={UNSPACED.pattern})")
_HANGUL = re.compile("[\uac00-\ud7a3]")


class PhraseRules:
    """Blocks a text in which one of the patterns of a label is found."""

    def __init__(self, name: str, patterns: Mapping[str, Sequence[str]]) -> None:
        self.name = name
        self._patterns = [
            (label, re.compile(unmarked("|".join(f"(?:{pattern})" for pattern in alternatives))))
            for label, alternatives in patterns.items()
            if alternatives
        ]

    def check(self, text: str) -> list[Finding]:
        """At most one finding per label; it stands for the whole text, whose folded form was searched."""
        readings = self._readings(plain(text))
        return [
            Finding(self.name, label, Action.BLOCK, 0, len(text))
            for label, pattern in self._patterns
            if any(pattern.search(reading) for reading in readings)
        ]

    def _readings(self, folded: str) -> list[str]:
        """The ways to read a text that may give a pattern away."""
        return [folded]


class InjectionRules(PhraseRules):
    """The usual attempts at prompt injection, also with digits for letters and with letters set apart."""

    def __init__(self) -> None:
        super().__init__("injection", _INJECTION)

    def _readings(self, folded: str) -> list[str]:
        readings = [folded]
        if (spelled := _DIGITS_FOR_LETTERS.sub(_spelled, folded)) != folded:
            readings.append(spelled)
        if _SET_APART.search(folded):
            readings.append(_SET_APART.sub(_joined, folded))
        return readings


def injection_rules() -> PhraseRules:
    """The usual attempts at prompt injection."""
    return InjectionRules()


def denied_topics(topics: Mapping[str, Sequence[str]]) -> PhraseRules:
    """Topics by name, each with the phrases that give it away; in any case and spacing, as whole words where
    a script sets words apart."""
    return PhraseRules(
        "denied_topic", {name: [_phrase(phrase) for phrase in phrases] for name, phrases in topics.items()}
    )


def _phrase(phrase: str) -> str:
    """The pattern of a phrase: Chinese has no blanks between words, Korean none before particles."""
    folded = plain(phrase).strip()
    pattern = (
        _BETWEEN_UNSPACED.sub(r"\\s?", re.escape(folded)) if UNSPACED.search(folded) else re.escape(folded)
    )
    before = "" if UNSPACED.match(folded[0]) else r"(?<!\w)"
    behind = "" if UNSPACED.match(folded[-1]) or _HANGUL.match(folded[-1]) else r"(?!\w)"
    return f"{before}{pattern}{behind}"


def _spelled(match: re.Match[str]) -> str:
    return match[0].replace("11", "ll").translate(_LETTERS)


def _joined(match: re.Match[str]) -> str:
    """Letters set apart as one word, and words again where it is made of those that rules know."""
    return _KNOWN_WORDS.sub(r" \g<0> ", re.sub(r"[^a-z]", "", match[0])).replace("  ", " ")
