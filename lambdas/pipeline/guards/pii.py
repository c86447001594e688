"""Finds personal data by its form, offline: rules that check digits where a form has them.

Rules find what has a form (addresses, numbers); names and the like take a model. Patterns start only where a
token starts and repeat within bounds, so that no text makes them slow. python-stdnum checks digits; it is
imported where the first form is found, since a cold start without it is faster. Phone numbers keep rules of
their own: the library for them finds national numbers of one country at a time (bench/results/imports.md).
"""

from __future__ import annotations

import bisect
import importlib
import re
from collections.abc import Callable
from dataclasses import replace

from lambdas.pipeline.guards.base import Action, Finding
from lambdas.pipeline.guards.folding import in_place

# Where a token starts and ends: in Chinese and Japanese a number follows a letter without a blank.
_BEFORE, _BEHIND = r"(?<![0-9A-Za-z_])", r"(?![0-9A-Za-z_])"
_EMAIL = re.compile(
    r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![0-9A-Za-z_-])"
)
_PHONE = re.compile(
    r"(?<![0-9A-Za-z_+])(?<!\d[ .-])(?:\+\d{1,3}(?:[ .()/-]{0,2}\d){6,13}"  # +49 (0)30 1234567
    r"|(?:\+?1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"  # (555) 123-4567
    r"|\(0?\d{1,4}\) ?\d{3,4}[ -]\d{3,4}"  # (08) 8747 6301
    r"|0\d{1,4}(?:[ .-]\d{2,4}){3,4}"  # 0490 75 40 81
    r"|0\d{2,4}[ .-]\d{3,4}[ .-]\d{3,4}"  # 078 8098 1119
    r"|1[3-9]\d(?:[ -]?\d{4}){2}"  # 138 1234 5678: mobile, China
    r"|[6-9]\d{4}[ -]\d{5}"  # 98765 43210: mobile, India
    # 4155552671: North America writes ten digits together; neither group begins with 0 or 1 or ends in 11
    r"|[2-9](?!11)\d{2}[2-9](?!11)\d{2}\d{4})(?:x\d{1,6})?" + _BEHIND
)
# Digits in groups are a number to call where a word before them says so.
_CALLED = re.compile(
    r"(?:(?i:\b(?:phone|mobile|cell|tel|fax|desk|call|dial|answering|whatsapp)\b)"
    r"|電話|携帯|電話番号|电话|手机|手機|전화)"
    r"[^\d\n]{0,24}\n?[^\d\n]{0,4}(?P<it>(?!\d{4}-\d\d-\d\d|\d\d?[.-]\d\d?[.-]\d{4})"
    r"\(?\d{2,4}\)?(?:[ .-]?\d{2,4}){1,4}(?:x\d{1,6})?)(?![0-9A-Za-z_,]|\.\d)"
)
_CARD = re.compile(r"(?<![\w-])[0-9](?:[ .-]{0,2}[0-9]){12,18}(?![0-9A-Za-z_-])")
_IBAN = re.compile(r"(?<![0-9A-Za-z_])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}")
_SSN = re.compile(r"(?<![\w-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![\w-])")
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IP = re.compile(rf"(?<![0-9A-Za-z_.]){_OCTET}(?:\.{_OCTET}){{3}}(?![0-9A-Za-z_]|\.\d)")
_IPV6 = re.compile(
    r"(?<![0-9A-Za-z_:])(?=[A-Fa-f]{0,3}\d)[0-9A-Fa-f]{3,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![0-9A-Za-z_:])"
)
_SECRET = re.compile(
    _BEFORE + r"(?:(?:AKIA|ASIA)[0-9A-Z]{16}|eg-[\w-]{43}"  # AWS, ours
    r"|gh[pousr]_[0-9A-Za-z]{36,255}|github_pat_\w{22,255}|glpat-[\w-]{20,64}"  # GitHub, GitLab
    r"|sk-(?:proj-|svcacct-|ant-)?[\w-]{20,200}|hf_[0-9A-Za-z]{30,64}"  # OpenAI, Anthropic, Hugging Face
    r"|[sr]k_(?:live|test)_[0-9A-Za-z]{16,128}"  # Stripe
    r"|xox[abeprs]-[\w-]{10,200}|AIza[\w-]{35}"  # Slack, Google
    r"|eyJ[\w-]{8,2000}\.eyJ[\w-]{8,4000}\.[\w-]{8,2000})(?![0-9A-Za-z_-])"  # a signed token (JWT)
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[0-9A-Za-z+/=\s]{1,8000}"
    r"(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
)
_IDS: tuple[tuple[str, str, str], ...] = (
    # A form of its own, and the module of python-stdnum that checks its digits
    ("", r"\d{17}[\dXx]", "cn.ric"),
    ("", r"[2-9]\d{3}(?: \d{4}){2}", "in_.aadhaar"),
    ("", r"[A-Z]{3}[PCHFATBLJG][A-Z]\d{4}[A-Z]", "in_.pan"),
    ("", r"\d{8}-?[A-HJ-NP-TV-Z]", "es.dni"),
    ("", r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]", "es.nie"),
    ("", r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", "it.codicefiscale"),
    ("", r"[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}", "fr.nir"),
    # Digits that could be anything, unless a word says so
    (
        r"(?:steuer\W{0,2}(?:id\w*|nummer|identifikationsnummer)|idnr)",
        r"\d{2} ?\d{3} ?\d{3} ?\d{3}",
        "de.idnr",
    ),
    (r"(?:bsn|burgerservicenummer)", r"\d{9}", "nl.bsn"),
    (r"pesel", r"\d{11}", "pl.pesel"),
    (r"(?:マイナンバー|個人番号|my ?number)", r"\d{4}[ -]?\d{4}[ -]?\d{4}", "jp.in_"),
)


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
        if text[end - 1] != " " and iban.is_valid(text[:end].upper(), check_country=False):
            return end
    return 0


def _ssn(text: str) -> int:
    """Length of a social security number of the USA; 0 where none was ever given out like it."""
    from stdnum.us import ssn

    return len(text) if ssn.is_valid(text) else 0


def _enough_digits(text: str) -> int:
    """Seven digits at least: fewer are a room, a year, an extension."""
    return len(text) if sum(character.isdigit() for character in text) >= 7 else 0


def _ipv6(text: str) -> int:
    """Length of an IPv6 address; 0 where colons stand between other things."""
    from ipaddress import AddressValueError, IPv6Address

    try:
        IPv6Address(text)
    except AddressValueError:
        return 0
    return len(text)


def _id_check(module: str) -> Callable[[str], int]:
    """The length of an identity number whose digits python-stdnum finds right; 0 of any other."""

    def length(text: str) -> int:
        checker = importlib.import_module(f"stdnum.{module}")
        return len(text) if checker.is_valid(text.replace(" ", "").replace("-", "").upper()) else 0

    return length


def _id_pattern(word: str, form: str) -> re.Pattern[str]:
    if not word:
        return re.compile(f"{_BEFORE}{form}{_BEHIND}")
    return re.compile(f"(?i:{word})[^\\d\\n]{{0,24}}(?P<it>{form}){_BEHIND}")


_RULES: tuple[tuple[str, re.Pattern[str], Callable[[str], int]], ...] = (
    ("email", _EMAIL, len),
    ("secret", _SECRET, len),
    ("iban", _IBAN, _iban),
    *(("national_id", _id_pattern(word, form), _id_check(module)) for word, form, module in _IDS),
    ("card", _CARD, _luhn),
    ("ssn", _SSN, _ssn),
    ("ip", _IPV6, _ipv6),
    ("phone", _PHONE, len),
    ("phone", _CALLED, _enough_digits),
    ("ip", _IP, len),
)


class PiiRules:
    """Asks for masks, never for a refusal."""

    name = "pii"

    def check(self, text: str) -> list[Finding]:
        """Findings that do not overlap, in order of place."""
        seen, places = in_place(text)
        found = self._found(seen)
        if places is None:
            return found
        return [
            replace(finding, start=places[finding.start], end=places[finding.end - 1] + 1)
            for finding in found
        ]

    def _found(self, text: str) -> list[Finding]:
        taken: list[Finding] = []  # in order of place: only its neighbours can overlap a new one
        for label, pattern, length in _RULES:
            for match in pattern.finditer(text):
                group = "it" if "it" in pattern.groupindex else 0
                start, found = match.start(group), match[group]
                end = start + length(found)
                at = bisect.bisect(taken, start, key=lambda finding: finding.start)
                free_before = at == 0 or taken[at - 1].end <= start
                free_behind = at == len(taken) or end <= taken[at].start
                if end > start and free_before and free_behind:
                    taken.insert(at, Finding(self.name, label, Action.MASK, start, end))
        return taken
