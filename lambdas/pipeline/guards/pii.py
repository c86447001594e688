"""Finds personal data by its form, offline: rules that check digits where a form has them.

Rules find what has a form (addresses, numbers); names and the like take a model. Patterns start only where a
token starts and repeat within bounds, so that no text makes them slow. python-stdnum checks digits; it is
imported where the first form is found, since a cold start without it is faster. Phone numbers keep rules of
their own: the library for them finds national numbers of one country at a time (bench/results/imports.md).
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable

from lambdas.pipeline.guards.base import Action, Finding

_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
_PHONE = re.compile(
    r"(?<![\w+])(?<!\d[ .-])(?:\+\d{1,3}(?:[ .()/-]{0,2}\d){6,13}"  # +49 (0)30 1234567
    r"|(?:\+?1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"  # (555) 123-4567
    r"|\(0?\d{1,4}\) ?\d{3,4}[ -]\d{3,4}"  # (08) 8747 6301
    r"|0\d{1,4}(?:[ .-]\d{2,4}){3,4}"  # 0490 75 40 81
    r"|0\d{2,4}[ .-]\d{3,4}[ .-]\d{3,4})(?:x\d{1,6})?(?!\w)"  # 078 8098 1119
)
# Digits in groups are a number to call where a word before them says so.
_CALLED = re.compile(
    r"(?i:\b(?:phone|mobile|cell|tel|fax|desk|call|dial|answering|whatsapp)\b)[^\d\n]{0,24}\n?[^\d\n]{0,4}"
    r"(?P<it>(?!\d{4}-\d\d-\d\d|\d\d?[.-]\d\d?[.-]\d{4})"
    r"\(?\d{2,4}\)?(?:[ .-]?\d{2,4}){1,4}(?:x\d{1,6})?)(?![\w,]|\.\d)"
)
_CARD = re.compile(r"(?<![\w-])[0-9](?:[ -]?[0-9]){12,18}(?![\w-])")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}")
_SSN = re.compile(r"(?<![\w-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![\w-])")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IP = re.compile(rf"(?<![\w.]){_OCTET}(?:\.{_OCTET}){{3}}(?![\w]|\.\d)")
_SECRET = re.compile(r"(?<!\w)(?:(?:AKIA|ASIA)[0-9A-Z]{16}|eg-[\w-]{43})(?![\w-])")


def _luhn(text: str) -> int:
    """Length of a card number at the beginning of the match, 0 where the check digit is wrong."""
    from stdnum import luhn

    return len(text) if luhn.is_valid(re.sub(r"\D", "", text)) else 0


def _iban(text: str) -> int:
    """Length of an IBAN at the beginning of the match: the longest one that its country's form allows.

    The check digits that some countries have inside it are not looked at: a mistyped account is personal too.
    """
    from stdnum import iban

    for end in range(len(text), 14, -1):
        if text[end - 1] != " " and iban.is_valid(text[:end], check_country=False):
            return end
    return 0


def _ssn(text: str) -> int:
    """Length of a social security number of the USA; 0 where none was ever given out like it."""
    from stdnum.us import ssn

    return len(text) if ssn.is_valid(text) else 0


def _enough_digits(text: str) -> int:
    """Seven digits at least: fewer are a room, a year, an extension."""
    return len(text) if sum(character.isdigit() for character in text) >= 7 else 0


_RULES: tuple[tuple[str, re.Pattern[str], Callable[[str], int]], ...] = (
    ("email", _EMAIL, len),
    ("secret", _SECRET, len),
    ("iban", _IBAN, _iban),
    ("card", _CARD, _luhn),
    ("ssn", _SSN, _ssn),
    ("phone", _PHONE, len),
    ("phone", _CALLED, _enough_digits),
    ("ip", _IP, len),
)


class PiiRules:
    """Asks for masks, never for a refusal."""

    name = "pii"

    def check(self, text: str) -> list[Finding]:
        """Findings that do not overlap, in order of place."""
        taken: list[Finding] = []  # in order of place: only its neighbours can overlap a new one
        for label, pattern, length in _RULES:
            for match in pattern.finditer(text):
                start, found = (
                    (match.start("it"), match["it"])
                    if "it" in pattern.groupindex
                    else (
                        match.start(),
                        match[0],
                    )
                )
                end = start + length(found)
                at = bisect.bisect(taken, start, key=lambda finding: finding.start)
                free_before = at == 0 or taken[at - 1].end <= start
                free_behind = at == len(taken) or end <= taken[at].start
                if end > start and free_before and free_behind:
                    taken.insert(at, Finding(self.name, label, Action.MASK, start, end))
        return taken
