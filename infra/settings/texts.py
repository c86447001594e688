"""Kinds of text that several sections hold: e-mail addresses, origins, regions, times, each said in words.

Knows nothing of CDK, files or line numbers.
"""

from __future__ import annotations

import re
import zoneinfo
from typing import Annotated

from infra.settings.base import RuleError, text

EmailAddress = Annotated[
    str,
    text(r"^[^@\s]+@([A-Za-z0-9-]+\.)+[A-Za-z]{2,63}$", "e-mail addresses", max_length=320),
]
Origin = Annotated[
    str,
    text(
        r"^(\*|https?://[a-z0-9.-]+(:\d{1,5})?)$",
        "origins as browsers send them: scheme and host in small letters, perhaps a port, no path; or *",
    ),
]
Region = Annotated[str, text(r"^[a-z]{2}(-[a-z]+)+-\d$", "a region's code, such as us-east-1")]
AccountId = Annotated[str, text(r"^\d{12}$", "twelve digits, in quotes")]

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("minutes", 0, 59, []),
    ("hours", 0, 23, []),
    ("day of the month", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 1, 7, _DAYS),
    ("year", 1970, 2199, []),
)
_SPECIAL = {
    "day of the month": r"L|[1-9]\d?W|LW",
    "day of the week": rf"L|[1-7]L|[1-7]#[1-5]|({'|'.join(_DAYS)})#[1-5]",
}
_RATE = re.compile(r"^rate\((\d+) (minutes?|hours?|days?)\)$")
_AT = re.compile(r"^at\(\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d\)$")


def check_schedule(key: str, expression: str, *, once: bool = False) -> None:
    """The expression is one of EventBridge's; with `once`, Application Auto Scaling's `at(…)` too.

    Raises RuleError at `key`. Source of the rules: EventBridge's and Application Auto Scaling's guides.
    """
    fault = _fault(expression, once)
    if fault:
        raise RuleError(
            key,
            what=f"'{expression}' is no schedule: {fault}.",
            why="AWS refuses it.",
            change="cron(minutes hours day-of-month month day-of-week year), with ? for one of the two days, "
            "or rate(N minutes|hours|days)" + (", or at(yyyy-mm-ddThh:mm:ss)" if once else ""),
            example="cron(0 3 ? * SUN *)",
        )


def check_timezone(key: str, name: str) -> None:
    """The time zone is one of IANA's, where this machine has their names. Raises RuleError."""
    known = zoneinfo.available_timezones()
    if known and name not in known:
        raise RuleError(
            key,
            what=f"The time zone '{name}' is unknown.",
            why="Schedules follow a time zone of the IANA database.",
            change="a name such as Europe/Berlin or UTC",
            example="Europe/Berlin",
        )


def _fault(expression: str, once: bool) -> str:
    if expression.startswith("rate("):
        return _rate_fault(expression)
    if once and expression.startswith("at("):
        return "" if _AT.match(expression) else "at(…) holds a date and a time such as 2027-01-31T03:00:00"
    fields = expression.removeprefix("cron(").removesuffix(")").split()
    if len(fields) != len(_FIELDS):
        return f"cron(…) has six fields and this one {len(fields)}"
    for value, (name, least, most, names) in zip(fields, _FIELDS, strict=True):
        if not _fits(value, name, least, most, names):
            return f"'{value}' is not a {name}" if name[-1] != "s" else f"'{value}' are no {name}"
    days = fields[2], fields[4]
    if days.count("?") != 1:
        return "exactly one of day-of-month and day-of-week is ?"
    return ""


def _rate_fault(expression: str) -> str:
    found = _RATE.match(expression)
    if not found or not int(found[1]):
        return "rate(…) holds a number from 1 and minutes, hours or days"
    return (
        "" if (found[1] == "1") != found[2].endswith("s") else "one is singular, more are plural: rate(1 day)"
    )


def _fits(value: str, name: str, least: int, most: int, names: list[str]) -> bool:
    if value == "?":
        return name in _SPECIAL
    if name in _SPECIAL and re.fullmatch(_SPECIAL[name], value):
        return True
    return all(_part_fits(part, least, most, names) for part in value.split(","))


def _part_fits(part: str, least: int, most: int, names: list[str]) -> bool:
    start, slash, step = part.partition("/")
    if slash and not (step.isascii() and step.isdigit() and 0 < int(step) <= most):
        return False
    if start == "*":
        return True
    first, dash, last = start.partition("-")
    ends = [_number(end, names) for end in ([first, last] if dash else [first])]
    numbers = [end for end in ends if end is not None and least <= end <= most]
    return len(numbers) == len(ends) and numbers == sorted(numbers)


def _number(word: str, names: list[str]) -> int | None:
    if word.upper() in names:
        return names.index(word.upper()) + 1
    return int(word) if word.isascii() and word.isdigit() else None
