"""Abusive language by a lexicon and rules, offline: a text scores from 0 to 1, and a threshold decides.

What counts is whom words are aimed at: a swear word alone scores low, the same word at somebody high. Rules
of this kind see form, not meaning: they miss veiled abuse and polite cruelty, for which a model-based
provider stands behind the same interface. Groups are named only to see them attacked; naming one scores
nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from lambdas.pipeline.guards.base import Action, Finding
from lambdas.pipeline.guards.folding import plain

_GROUPS = (
    r"(?:jews|muslims|christians|hindus|arabs|africans|asians|mexicans|immigrants|migrants|refugees"
    r"|foreigners|gypsies|roma|gays|lesbians|homosexuals|transgenders|women|girls|blacks|whites|cripples|indians|chinese"
    r"|(?:black|white|brown|gay|trans|transgender|disabled|old|poor|jewish|muslim|asian|arab) "
    r"(?:people|folks?|men|women|kids|persons?))"
)
_LOW = (
    r"(?:idiots?|morons?|imbeciles?|dumbass(?:es)?|dumbfucks?|retards?|cretins?|scum|scumbags?|trash|garbage"
    r"|vermin|parasites?|subhumans?|animals|pigs?|rats?|cockroach(?:es)?|filth|losers?|pathetic|worthless"
    r"|disgusting"
    r"|bitch(?:es)?|bastards?|assholes?|arseholes?|cunts?|whores?|sluts?|dickheads?|pricks?|twats?|wankers?"
    r"|pieces? of (?:shit|crap|garbage|trash)|waste of (?:space|air|oxygen|skin))"
)
_SWEAR = r"(?:fuck(?:ing|ed|er|ers)?|motherfuckers?|shit(?:ty|head)?|bullshit|goddamn|crap|damn)"
# What stands between "you" and the insult; a verb there speaks of something else ("you keep rats").
_EPITHET = (
    r"(?:fuck(?:ing)?|shit(?:ty)?|bloody|goddamn|damn|stupid|dumb|little|big|old|ugly|filthy|dirty|lazy|fat"
    r"|ignorant|useless|miserable|worthless|pathetic|disgusting|absolute|complete|total|utter|real|rotten|sick"
    r"|cheap|bunch of)"
)
_IN_PLAY = (
    r"(?:in|at) (?:a |an |the |this |that |our )?(?:next |final |last |video |board |card )*"
    r"(?:chess|checkers|poker|tennis|golf|football|soccer|basketball|hockey|boxing|scrabble|monopoly|fifa"
    r"|mario kart|games?|match(?:es)?|race|quiz|debate|tournament|round|finals?|sparring|paintball|laser tag"
    r"|fortnite|minecraft)\b"
)
_HARM = r"(?:kill|murder|hurt|beat|stab|shoot|strangle|rape|burn|gut|slaughter|maim|lynch)"
# Words that also mean a thing (a chink, a dyke) are left out.
_SLUR = r"\b(?:(?:sand)?nigg(?:er|a)s?|kikes?|fagg?ots?|trann(?:y|ies)|wetbacks?|towelheads?|gooks?)\b"
_ADVERB = (
    r"(?:(?:such |just |really |so |all |nothing but |a |an |the |my |total |complete |absolute |most "
    r"|fucking |stupid |dumb |little |ugly |filthy |dirty |lazy |fat |useless |miserable )*)"
)

_RULES: tuple[tuple[str, float, str], ...] = (
    ("hate", 0.95, _SLUR),
    (
        "hate",
        0.95,
        rf"\b(?:all |these |those |the )?(?:\w+ )?{_GROUPS} (?:are|is) {_ADVERB}"
        rf"(?:{_LOW}|inferior|criminals|a disease|a plague|a cancer|not (?:really )?human|less than human)\b",
    ),
    (
        "hate",
        0.95,
        rf"\b{_GROUPS} (?:should|must|need to|deserve to|ought to) (?:all )?(?:be )?"
        r"(?:die|killed|shot|exterminated|gassed|wiped out|eradicated|lynched|hanged|sterilized|raped)\b",
    ),
    (
        "hate",
        0.85,
        rf"\bi (?:\w+ )?(?:hate|despise|loathe|can't stand) (?:all |these |those |the )?{_GROUPS}\b",
    ),
    ("hate", 0.9, rf"\b(?:gas|exterminate|lynch|eradicate|wipe out) (?:all |the |those )?{_GROUPS}\b"),
    (
        "threat",
        0.95,
        r"\b(?:i|we)(?:'ll| will|(?: am|'m|'re) going to|(?:'m|'re)? gonna| wan(?:t to|na))"
        rf" (?:\w+ )?{_HARM} (?:you|u|him|her|them|your (?:family|kids|children|mother|wife|husband))\b"
        rf"(?! {_IN_PLAY})",
    ),
    (
        "threat",
        0.9,
        r"\b(?:i|we) (?:hope|wish) (?:that )?(?:you|u|he|she|they) (?:\w+ )?(?:dies?|suffer|rot)\b",
    ),
    (
        "threat",
        0.9,
        r"\b(?:you|u|he|she|they) (?:deserve|deserves) to (?:die|suffer|be (?:raped|beaten|killed|shot))\b",
    ),
    (
        "threat",
        0.85,
        r"\bi know where you live\b|\byou(?:'re| are) (?:a )?dead (?:man|meat)\b"
        r"|\b(?:you(?:'re| are)(?: so)? dead|watch your back)(?= *(?:[.!?,;]|$))",
    ),
    (
        "self_harm",
        0.95,
        r"\b(?:kill (?:yourself|urself)|kys|go die|drink bleach|end yourself)\b(?! in (?:the )?game)",
    ),
    (
        "self_harm",
        0.9,
        r"\b(?:the world|everyone|everybody|we)(?:'d| would) be better (?:off )?without (?:you|u)\b",
    ),
    (
        "insult",
        0.85,
        r"\b(?:you|u|ya|your(?: \w+)? (?:is|are)|you're|ur|youre|you are|s?he(?: i|')s|they(?: a|')re)"
        rf" {_ADVERB}{_LOW}\b",
    ),
    ("insult", 0.85, rf"\byou (?:{_EPITHET} ){{0,3}}{_LOW}(?=[ ,.!?]|$)"),
    ("insult", 0.85, r"\b(?:fuck|screw) ?(?:you|off|u|him|her|them|your (?:mother|family))\b|\bgo to hell\b"),
    ("insult", 0.8, r"\b(?:shut (?:the fuck )?up|nobody (?:likes|loves|wants) you|you make me sick)\b"),
    (
        "sexual",
        0.9,
        r"\b(?:suck my (?:dick|cock)|send (?:me )?(?:your )?nudes"
        r"|i(?:'ll| will| want to|'d like to) fuck (?:you|her|him))\b",
    ),
    ("insult", 0.35, rf"\b{_LOW}\b"),
    ("profanity", 0.3, rf"\b{_SWEAR}\b"),
)
_MOST_COUNTED = 3
"""Hits of one rule that count: a long text does not score by its length."""

_LEET = str.maketrans({"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s"})
_SPELLED = re.compile(r"(?<!\w)(?:[a-z][ .*_-]){2,15}[a-z](?!\w)")
_REPEATED = re.compile(r"([a-z])\1{2,}")
_APOSTROPHE = re.compile("[’‘`´]")


@dataclass(frozen=True)
class Verdict:
    """A text's score and the label that weighs most, the scores by label, and whether it is refused."""

    score: float
    heaviest: str
    by_label: dict[str, float]
    findings: list[Finding]


class ToxicityRules:
    """Refuses a text whose score reaches `threshold`."""

    name = "toxicity"

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._rules = [(label, weight, re.compile(pattern)) for label, weight, pattern in _RULES]

    def check(self, text: str) -> list[Finding]:
        """At most one finding, under the label that weighs most; it stands for the whole text."""
        return self.judged(text).findings

    def score(self, text: str) -> tuple[float, str]:
        """From 0 to 1, and the label that weighs most (empty at 0)."""
        verdict = self.judged(text)
        return verdict.score, verdict.heaviest

    def judged(self, text: str) -> Verdict:
        """All that the rules say of a text. Hits add up as independent doubts do."""
        folded = _unmasked(text)
        innocence: dict[str, float] = {}
        heaviest, label = 0.0, ""
        for name, weight, pattern in self._rules:
            hits = sum(1 for _, _match in zip(range(_MOST_COUNTED), pattern.finditer(folded), strict=False))
            innocence[name] = innocence.get(name, 1.0) * (1 - weight) ** hits
            if hits and weight > heaviest:
                heaviest, label = weight, name
        score = 1 - math.prod(innocence.values())
        found = [Finding(self.name, label, Action.BLOCK, 0, len(text))] if score >= self._threshold else []
        return Verdict(score, label, {name: 1 - rest for name, rest in innocence.items()}, found)


def _unmasked(text: str) -> str:
    """The text as a reader hears it: `f.u.c.k`, `fuuuck` and `1d10t` are the words they stand for."""
    folded = _APOSTROPHE.sub("'", plain(text)).translate(_LEET)
    folded = _SPELLED.sub(lambda match: re.sub(r"[ .*_-]", "", match[0]), folded)
    return _REPEATED.sub(r"\1", folded)
