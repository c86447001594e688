"""Metric math as text, read into a tree by recursive descent. Computes nothing.

From loosest to tightest: `OR` `||`, `AND` `&&`, comparisons, `+ -`, `* /`, unary `-`, `^` (from the right).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from local.cloud.cloudwatch.errors import MathError

MAX_LENGTH = 2048
_MAX_DEPTH = 64
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
        |(?P<text>"[^"]*"|'[^']*')
        |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
        |(?P<sign>==|!=|<=|>=|&&|\|\||[-+*/^<>()\[\],]))""",
    re.VERBOSE,
)
_LEVELS: tuple[tuple[str, ...], ...] = (
    ("OR",),
    ("AND",),
    ("==", "!=", "<=", ">=", "<", ">"),
    ("+", "-"),
    ("*", "/"),
)
_SPELLINGS = {"||": "OR", "&&": "AND"}


@dataclass(frozen=True)
class Number:
    """A scalar."""

    value: float


@dataclass(frozen=True)
class Text:
    """A quoted string, an argument of METRICS and SEARCH."""

    value: str


@dataclass(frozen=True)
class Word:
    """An upper-case word that is no call: an option such as `REPEAT`."""

    name: str


@dataclass(frozen=True)
class Reference:
    """Another query of the request by its id."""

    id: str


@dataclass(frozen=True)
class Negation:
    """Unary minus."""

    operand: Node


@dataclass(frozen=True)
class BinaryOperation:
    """`left sign right`."""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Array:
    """`[a, b]`: an array of time series."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class FunctionCall:
    """`NAME(arguments)`."""

    name: str
    arguments: tuple[Node, ...]


Node = Number | Text | Word | Reference | Negation | BinaryOperation | Array | FunctionCall


@lru_cache(maxsize=256)
def parse(text: str) -> Node:
    """The tree of an expression. Raises MathError saying where it stops making sense."""
    if len(text) > MAX_LENGTH:
        raise MathError(f"an expression has at most {MAX_LENGTH} characters")
    parser = _Parser(text)
    tree = parser.level(0)
    parser.take("")
    return tree


def references(node: Node) -> Iterator[str]:
    """The ids that a tree names, in order."""
    match node:
        case Reference(id):
            yield id
        case Negation(operand):
            yield from references(operand)
        case BinaryOperation(_, left, right):
            yield from references(left)
            yield from references(right)
        case Array(items) | FunctionCall(_, items):
            for item in items:
                yield from references(item)


def calls(node: Node) -> Iterator[str]:
    """The names of the functions that a tree calls."""
    match node:
        case Negation(operand):
            yield from calls(operand)
        case BinaryOperation(_, left, right):
            yield from calls(left)
            yield from calls(right)
        case Array(items):
            for item in items:
                yield from calls(item)
        case FunctionCall(name, items):
            yield name
            for item in items:
                yield from calls(item)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def level(self, number: int) -> Node:
        """An operation of this level of binding, or of a tighter one."""
        if number == len(_LEVELS):
            return self._unary()
        left = self.level(number + 1)
        while (sign := self._sign()) in _LEVELS[number]:
            self._at += 1
            left = BinaryOperation(sign, left, self.level(number + 1))
        return left

    def take(self, expected: str) -> None:
        """Step over a sign; `""` is the end."""
        _kind, value = self._tokens[self._at]
        if value != expected:
            found = f"'{value}'" if value else "the end"
            raise MathError(f"{found} stands where {repr(expected) if expected else 'the end'} should")
        self._at += 1

    def _sign(self) -> str:
        kind, value = self._tokens[self._at]
        return _SPELLINGS.get(value, value) if kind in ("sign", "word") else ""

    def _unary(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise MathError("the expression is nested too deeply")
        try:
            if self._sign() == "-":
                self._at += 1
                return Negation(self._unary())
            base = self._operand()
            if self._sign() == "^":
                self._at += 1
                return BinaryOperation("^", base, self._unary())
            return base
        finally:
            self._depth -= 1

    def _operand(self) -> Node:
        kind, value = self._tokens[self._at]
        self._at += 1
        match kind, value:
            case "number", _:
                return Number(float(value))
            case "text", _:
                return Text(value[1:-1])
            case "word", _:
                return self._named(value)
            case "sign", "(":
                inner = self.level(0)
                self.take(")")
                return inner
            case "sign", "[":
                return Array(self._items("]"))
        raise MathError(f"'{value}' cannot begin an operand" if value else "the expression ends too early")

    def _named(self, name: str) -> Node:
        if self._sign() == "(":
            self._at += 1
            return FunctionCall(name, self._items(")"))
        if name in ("AND", "OR"):
            raise MathError(f"'{name}' cannot begin an operand")
        return Reference(name) if name[0].islower() else Word(name)

    def _items(self, closing: str) -> tuple[Node, ...]:
        if self._sign() == closing:
            self._at += 1
            return ()
        items = [self.level(0)]
        while self._sign() == ",":
            self._at += 1
            items.append(self.level(0))
        self.take(closing)
        return tuple(items)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if not found or found.lastgroup is None:
            raise MathError(f"'{text[at:].lstrip()[0]}' at character {at} is not understood")
        yield found.lastgroup, found[found.lastgroup]
        at = found.end()
    yield "end", ""
