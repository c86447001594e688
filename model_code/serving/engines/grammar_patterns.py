"""Regular expressions as grammars of what a JSON string holds: characters that JSON escapes are escaped.

Python's own parser reads the expression. As JSON Schema says, an expression may match anywhere in the text:
an end that is not anchored has any characters beside it. Pure.
"""

from __future__ import annotations

import re
from re import _constants as sre  # type: ignore[attr-defined]  # the parser's names have no public home
from re import _parser  # type: ignore[attr-defined]
from typing import Any

MOST_COUNTED = 16
"""How far repeats of wide classes are counted, all multiplied. Beyond it they are left open: xgrammar
prepares the whole vocabulary for each count."""
_CHARACTER = r'[^"\\\x00-\x1f\x7f]'  # one that JSON need not escape: enough of them keep to any expression
_NARROW = 24
"""Characters of a class for which counting costs little: digits, hexadecimal ones."""
_CATEGORIES = {
    sre.CATEGORY_DIGIT: "0-9",
    sre.CATEGORY_WORD: "a-zA-Z0-9_",
    sre.CATEGORY_SPACE: " ",  # the others would have to be escaped: a space is one of them
}
_NEGATED = {
    sre.CATEGORY_NOT_DIGIT: "0-9",
    sre.CATEGORY_NOT_WORD: "a-zA-Z0-9_",
    sre.CATEGORY_NOT_SPACE: r" \t\n\r\f\v",
}
_ESCAPES = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", '"': '"', "\\": "\\"}


class UnsupportedPatternError(ValueError):
    """An expression that no grammar here stands for."""


def pattern_grammar(pattern: str) -> str:
    """The grammar of the texts in which a pattern is found. Raises UnsupportedPatternError."""
    try:
        parsed = list(_parser.parse(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise UnsupportedPatternError(str(error)) from None
    begins = bool(parsed) and parsed[0] == (sre.AT, sre.AT_BEGINNING)
    ends = bool(parsed) and parsed[-1] == (sre.AT, sre.AT_END)
    inner = _sequence(parsed[begins : len(parsed) - ends], 1)
    around = f"{_CHARACTER}*"
    return " ".join(piece for piece in ("" if begins else around, inner, "" if ends else around) if piece)


def _sequence(nodes: list[Any], copies: int) -> str:
    return " ".join(_node(kind, value, copies) for kind, value in nodes) or '""'


def _node(kind: Any, value: Any, copies: int) -> str:
    """A part of an expression that stands there `copies` times over."""
    if kind is sre.LITERAL:
        return f'"{_quoted(_escaped(chr(value)))}"'
    if kind is sre.NOT_LITERAL:
        return _class([(sre.NEGATE, None), (sre.LITERAL, value)])
    if kind is sre.IN:
        return _class(value)
    if kind is sre.ANY:
        return _CHARACTER
    if kind is sre.BRANCH:
        return f"({' | '.join(_sequence(list(branch), copies) for branch in value[1])})"
    if kind is sre.SUBPATTERN and not value[1] and not value[2]:
        return f"({_sequence(list(value[3]), copies)})"
    if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        return _repeat(int(value[0]), value[1], list(value[2]), copies)
    raise UnsupportedPatternError(f"'{str(kind).lower()}' is not supported here")


def _repeat(low: int, high: Any, inner: list[Any], copies: int) -> str:
    is_open = high is sre.MAXREPEAT
    far = copies * (low if is_open else int(high)) > MOST_COUNTED and _is_wide(inner)
    text = _sequence(inner, copies * max(1, low if is_open else int(high)))
    text = text if text[0] == "[" and text[-1] == "]" and len(inner) == 1 else f"({text})"
    if far:
        return f"{text}+" if low else f"{text}*"
    if is_open:
        return f"{text}{{{low},}}" if low > 1 else text + ("+" if low else "*")
    return f"{text}{{{low},{int(high)}}}"


def _is_wide(nodes: list[Any]) -> bool:
    """Whether a class of many characters is among the parts."""
    return any(_breadth(kind, value) > _NARROW for kind, value in nodes)


def _breadth(kind: Any, value: Any) -> int:
    """How many characters the widest class of a part has, about."""
    if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        return max((_breadth(*node) for node in value[2]), default=0)
    if kind is sre.SUBPATTERN:
        return max((_breadth(*node) for node in value[3]), default=0)
    if kind is sre.BRANCH:
        return max((_breadth(*node) for branch in value[1] for node in branch), default=0)
    if kind is sre.IN:
        return sum(_breadth(*item) for item in value)
    if kind is sre.RANGE:
        return int(value[1] - value[0] + 1)
    if kind is sre.CATEGORY:
        return {sre.CATEGORY_DIGIT: 10, sre.CATEGORY_SPACE: 1}.get(value, 0xFFFF)
    return 0xFFFF if kind in (sre.ANY, sre.NOT_LITERAL, sre.NEGATE) else 1


def _class(items: list[Any]) -> str:
    """A class of characters. Of those that JSON escapes it has one only where it has no others."""
    negated = items[0][0] is sre.NEGATE
    ranges = ""
    escaped = ""
    for kind, value in items[negated:]:
        if kind is sre.RANGE:
            for low, high in _plain_ranges(*value):
                ranges += f"{_in_class(chr(low))}-{_in_class(chr(high))}"
        elif kind is sre.LITERAL and (negated or (chr(value) not in _ESCAPES and value > 31)):
            ranges += _in_class(chr(value))
        elif kind is sre.LITERAL:
            escaped = chr(value)
        elif kind is sre.CATEGORY and value in _CATEGORIES:
            ranges += _CATEGORIES[value]
        elif kind is sre.CATEGORY and value in _NEGATED and not negated:
            return _CHARACTER if len(items) > 1 else rf'[^{_NEGATED[value]}"\\\x00-\x1f\x7f]'
        else:
            raise UnsupportedPatternError("this class of characters is not supported here")
    if negated:
        return rf'[^{ranges}"\\\x00-\x1f\x7f]'
    if not ranges and not escaped:
        raise UnsupportedPatternError("this class of characters is not supported here")
    return f"[{ranges}]" if ranges else f'"{_quoted(_escaped(escaped))}"'


def _plain_ranges(low: int, high: int) -> list[tuple[int, int]]:
    """A range of code points without those that JSON escapes."""
    found = []
    for first, last in ((32, 33), (35, 91), (93, 0x10FFFF)):
        if max(low, first) <= min(high, last):
            found.append((max(low, first), min(high, last)))
    return found


def _escaped(character: str) -> str:
    """A character as a JSON string has it."""
    if character in _ESCAPES:
        return "\\" + _ESCAPES[character]
    return f"\\u{ord(character):04x}" if ord(character) < 32 else character


def _quoted(text: str) -> str:
    """A text inside a grammar's quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _in_class(character: str) -> str:
    return "\\" + character if character in '\\]^-["' else character
