"""Makes one raw support pair fit to train on: normalised, free of personal data and of template holes.

Pure text work: knows nothing of files, splits or models. The patterns favour precision; what they
cannot see (a name, a street) is listed in docs/training.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

_PLACEHOLDER = re.compile(
    r"\{\{\s*(?P<braces>[^{}]+?)\s*\}\}"  # {{Order Number}}
    r"|\[(?P<brackets>[A-Z][A-Za-z]*(?: [A-Z][A-Za-z]*){0,5})\]"  # [Live Chat]
    r"|<(?P<angles>[A-Z][A-Z_ ]{2,40})>"  # <ORDER_ID>
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")
_CARD = re.compile(r"(?<![\w-])[2-6]\d(?:[ -]?\d){11,17}(?![\w-])")  # networks issue 2 to 6
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_PHONE = re.compile(
    r"(?<![\w.+-])(?<!\d )(?:"  # not the tail or the head of a longer row of digits
    r"\+\d(?:[ .()/-]{0,2}\d){7,14}"  # +44 20 7946 0018
    r"|(?:\(\d{2,5}\)[ .-]?|\d{2,5}[ .-])\d{3,4}[ .-]\d{3,4}"  # (555) 010-4477
    r")(?![\w-])(?![ .]\d)"
)
_SPACES = re.compile(r"[^\S\n]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class PersonalData:
    """One kind of personal data: how to find it, how to tell it from a look-alike, what stands in for it."""

    kind: str
    pattern: re.Pattern[str]
    is_real: Callable[[str], bool]
    stand_in: str


def luhn_valid(number: str) -> bool:
    """Whether the digits pass the checksum of payment cards (ISO/IEC 7812-1, annex B)."""
    digits = [int(char) for char in number if char.isdigit()][::-1]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[0::2]) + sum(doubled)) % 10 == 0


def iban_valid(text: str) -> bool:
    """Whether the text passes the mod-97 checksum of account numbers (ISO 13616)."""
    compact = text.replace(" ", "")
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


def _always(_: str) -> bool:
    return True


# Order matters: a card number would also match as a phone number.
PERSONAL_DATA = (
    PersonalData("email", _EMAIL, _always, "my e-mail address"),
    PersonalData("iban", _IBAN, iban_valid, "my account number"),
    PersonalData("card", _CARD, luhn_valid, "my card number"),
    PersonalData("phone", _PHONE, _always, "my phone number"),
)


def normalise(text: str) -> str:
    """Unicode NFC, LF line ends, single blanks, no control characters, no blanks at either end."""
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    text = _SPACES.sub(" ", _CONTROL.sub("", text))
    return "\n".join(line.strip() for line in text.split("\n")).strip()


def find_placeholder(text: str) -> str | None:
    """The first template hole left in the text, such as `{{Order Number}}`, or None."""
    match = _PLACEHOLDER.search(text)
    return match.group(0) if match else None


def fill_placeholders(text: str) -> str:
    """Each template hole replaced by its own name in plain lower-case words."""

    def words(match: re.Match[str]) -> str:
        name = next(group for group in match.groups() if group is not None)
        return name.replace("_", " ").lower()

    return _PLACEHOLDER.sub(words, text)


def find_personal_data(text: str) -> str | None:
    """The kind of the first personal data found (`email`, `iban`, `card`, `phone`), or None."""
    for entry in PERSONAL_DATA:
        if any(entry.is_real(match.group(0)) for match in entry.pattern.finditer(text)):
            return entry.kind
    return None


def mask_personal_data(text: str) -> str:
    """Personal data replaced by plain words, so that no mask token is ever learned."""
    for entry in PERSONAL_DATA:

        def stand_in(match: re.Match[str], entry: PersonalData = entry) -> str:
            return entry.stand_in if entry.is_real(match.group(0)) else match.group(0)

        text = entry.pattern.sub(stand_in, text)
    return text
