"""Texts within JSON as their reader sees them: an escape hides no word, and no change tears one apart.

A text is read into pieces. Guards check what a reader sees of all of them, so that a name and its number stay
together; each piece is changed by itself and written back as JSON needs it.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from lambdas.pipeline.guards.base import Finding

Change = Callable[[str, list[Finding]], str]
"""A piece's text and what was found in it; the text it becomes."""

_MARKS = re.compile(r"[\s{}\[\],:]+|true|false|null")
_WORD = re.compile(r'[^\s{}\[\],:"]+')
_CONTENT = re.compile(r'(?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))+')
_TORN = re.compile(r"\\.?", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Kind(StrEnum):
    PLAIN = "plain"  # no JSON: changed as it is
    STRING = "string"  # within quotes
    NUMBER = "number"  # becomes a string where it is changed
    MARK = "mark"  # holds the others together and is never changed


@dataclass(frozen=True)
class _Piece:
    raw: str
    text: str
    kind: _Kind


_QUOTE = _Piece('"', " ", _Kind.MARK)  # read as a space: to a rule it ends a word, and a text


class Reading:
    """A text as its reader sees it (`text`). `within`: it ends in the middle of a string."""

    def __init__(self, pieces: list[_Piece], within: bool = False) -> None:
        self.pieces = pieces
        self.text = "".join(piece.text for piece in pieces)
        self.within = within

    def changed(self, findings: list[Finding], change: Change) -> str:
        """The text as it was written, but for what `change` makes of its pieces."""
        coming = deque(sorted(findings, key=lambda found: found.start))
        open_ones: list[Finding] = []  # those that reach into the piece: never many, however many there are
        written, start = [], 0
        for piece in self.pieces:
            end = start + len(piece.text)
            open_ones = [found for found in open_ones if found.end > start]
            while coming and coming[0].start < end:
                open_ones.append(coming.popleft())
            here = [
                replace(found, start=max(found.start, start) - start, end=min(found.end, end) - start)
                for found in open_ones
                if found.end > start
            ]
            written.append(_changed(piece, here, change))
            start = end
        return "".join(written)


def plain(text: str) -> Reading:
    """A text that is no JSON."""
    return Reading([_Piece(text, text, _Kind.PLAIN)] if text else [])


def whole(text: str) -> Reading:
    """A text that is JSON, or else a plain one."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return plain(text)
    return part(text)


def strings(text: str) -> Reading:
    """A text that is JSON and of which nothing but strings is ever changed."""
    pieces = part(text).pieces
    return Reading([p if p.kind is _Kind.STRING else replace(p, kind=_Kind.MARK) for p in pieces])


def part(text: str, within: bool = False) -> Reading:
    """Some of a JSON text, cut at no escape; `within` a string where the part before it ended there."""
    pieces: list[_Piece] = []
    position = 0
    while position < len(text):
        piece = _within(text, position) if within else _between(text, position)
        within ^= piece is _QUOTE
        pieces.append(piece)
        position += len(piece.raw)
    return Reading(pieces, within)


def _within(text: str, position: int) -> _Piece:
    """What comes next within a string: content, an escape that is none, or its end."""
    if content := _CONTENT.match(text, position):
        return _Piece(content[0], json.loads(f'"{content[0]}"', strict=False), _Kind.STRING)
    if torn := _TORN.match(text, position):
        return _Piece(torn[0], torn[0], _Kind.PLAIN)
    return _QUOTE


def _between(text: str, position: int) -> _Piece:
    """What comes next between strings."""
    if marks := _MARKS.match(text, position):
        return _Piece(marks[0], marks[0], _Kind.MARK)
    if word := _WORD.match(text, position):
        return _number(word[0]) or _Piece(word[0], word[0], _Kind.PLAIN)
    return _QUOTE


def _number(word: str) -> _Piece | None:
    try:
        value = json.loads(word)
        return _Piece(word, str(value), _Kind.NUMBER) if isinstance(value, int | float) else None
    except ValueError:
        return None


def _changed(piece: _Piece, findings: list[Finding], change: Change) -> str:
    if piece.kind is _Kind.MARK:
        return piece.raw
    said = change(piece.text, findings)
    if said == piece.text:
        return piece.raw
    if piece.kind is _Kind.PLAIN:
        return said
    quoted = json.dumps(said, ensure_ascii=False)
    quoted = _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)  # half a character is no UTF-8
    return quoted if piece.kind is _Kind.NUMBER else quoted[1:-1]
