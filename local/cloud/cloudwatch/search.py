"""`SEARCH`: which metrics a search names. Exact terms only, with AND, OR, NOT and parentheses.

A partial match, which CloudWatch makes over tokens of names, is refused rather than guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from local.cloud.cloudwatch.errors import MathError

MAX_LENGTH = 1024
_MAX_DEPTH = 32
_SCHEMA = re.compile(r"\s*\{([^}]*)\}\s*,?")
_TOKEN = re.compile(r"""\s*(?:([()])|(?:([\w.:/-]+)\s*=\s*)?"((?:[^"\\]|\\.)*)"|(\S+?)(?=[\s()]|$))""")


@dataclass(frozen=True)
class MetricName:
    """What identifies a metric."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]


Test = Callable[[MetricName], bool]
_Token = tuple[str, str | None, str]  # sign, word or term; the term's property; its text


def matching(query: str, metrics: Iterable[MetricName]) -> list[MetricName]:
    """The metrics that a search names, by namespace, name and dimensions. Raises MathError."""
    test = _compiled(query)
    found = [metric for metric in metrics if test(metric)]
    return sorted(found, key=lambda m: (m.namespace, m.name, sorted(m.dimensions.items())))


@lru_cache(maxsize=256)
def _compiled(query: str) -> Test:
    if len(query) > MAX_LENGTH:
        raise MathError(f"a search has at most {MAX_LENGTH} characters")
    schema = _SCHEMA.match(query)
    tests = [_schema_test(schema[1])] if schema else []
    terms = query[schema.end() :] if schema else query
    if terms.strip():
        tests.append(_Terms(terms).whole())
    if not tests:
        raise MathError("a search names a schema or a term")
    return lambda metric: all(test(metric) for test in tests)


def _schema_test(schema: str) -> Test:
    namespace, *dimensions = [name.strip().strip('"') for name in schema.split(",")]
    if not dimensions:
        return lambda metric: metric.namespace == namespace
    names = set(dimensions)
    return lambda metric: metric.namespace == namespace and metric.dimensions.keys() == names


class _Terms:
    """Terms side by side mean AND, which binds tighter than OR."""

    def __init__(self, text: str) -> None:
        self._tokens = [_token(found) for found in _TOKEN.finditer(text) if found[0].strip()]
        self._at = 0
        self._depth = 0

    def whole(self) -> Test:
        test = self._either()
        if self._at < len(self._tokens):
            raise MathError(f"'{self._tokens[self._at][2]}' is out of place in the search")
        return test

    def _either(self) -> Test:
        tests = [self._all()]
        while self._next("word", "OR"):
            self._at += 1
            tests.append(self._all())
        return lambda metric: any(test(metric) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._at < len(self._tokens) and not self._next("word", "OR") and not self._next("sign", ")"):
            if self._next("word", "AND"):
                self._at += 1
            tests.append(self._one())
        return lambda metric: all(test(metric) for test in tests)

    def _one(self) -> Test:
        if self._at >= len(self._tokens):
            raise MathError("the search ends too early")
        kind, owner, text = self._tokens[self._at]
        self._at += 1
        if kind == "term":
            return _term_test(owner, text)
        if (kind, text) == ("word", "NOT"):
            inner = self._one()
            return lambda metric: not inner(metric)
        if (kind, text) == ("sign", "("):
            return self._group()
        raise MathError(f"'{text}' in a search: only exact terms in double quotes are supported here")

    def _group(self) -> Test:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise MathError("the search is nested too deeply")
        test = self._either()
        if not self._next("sign", ")"):
            raise MathError("a parenthesis of the search is not closed")
        self._at += 1
        self._depth -= 1
        return test

    def _next(self, kind: str, text: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at][::2] == (kind, text)


def _token(found: re.Match[str]) -> _Token:
    sign, owner, term, word = found.groups()
    if sign:
        return "sign", None, sign
    if term is not None:
        return "term", owner, re.sub(r"\\(.)", r"\1", term)
    return "word", None, word


def _term_test(owner: str | None, text: str) -> Test:
    if owner == "MetricName":
        return lambda metric: metric.name == text
    if owner == "Namespace":
        return lambda metric: metric.namespace == text
    if owner:
        return lambda metric: metric.dimensions.get(owner) == text
    return lambda metric: text in (
        metric.name, metric.namespace, *metric.dimensions, *metric.dimensions.values()
    )  # fmt: skip
