"""Computes a tree of metric math over time series. No clock, no store: an `EvaluationScope` has its inputs.

A value is a scalar, one series, or an array of series. Two series meet at the moments at which either has a
value, the missing one counting as 0; a division by zero, like any result that is no finite number, gives no
point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from local.cloud.cloudwatch.errors import MathError
from local.cloud.cloudwatch.expression import (
    Array,
    BinaryOperation,
    FunctionCall,
    Negation,
    Node,
    Number,
    Reference,
    Text,
    Word,
)
from local.cloud.cloudwatch.series import Series, Window, moments_of

SeriesList = tuple[Series, ...]
Value = float | Series | SeriesList
Argument = Value | Text | Word
Search = Callable[[str, str, int], SeriesList]


@dataclass(frozen=True)
class EvaluationScope:
    """What an expression may name: other queries by id (`resolve` raises MathError for an unknown one), the
    request's metrics in order, a search, and the window and period for series made of scalars."""

    window: Window
    period: int
    metrics: Mapping[str, Series]
    resolve: Callable[[str], Value]
    search: Search


Function = Callable[[EvaluationScope, list[Argument]], Value]


def evaluate(node: Node, scope: EvaluationScope, functions: Mapping[str, Function]) -> Value:
    """The value of a tree. Raises MathError."""
    value = _value(node, scope, functions)
    if isinstance(value, Text | Word):
        raise MathError("a word or a quoted text is no value")
    return value


def _value(node: Node, scope: EvaluationScope, functions: Mapping[str, Function]) -> Argument:
    match node:
        case Number(number):
            return number
        case Text() | Word():
            return node
        case Reference(id):
            return scope.resolve(id)
        case Negation(operand):
            return operate("*", -1.0, evaluate(operand, scope, functions))
        case BinaryOperation(sign, left, right):
            return operate(sign, evaluate(left, scope, functions), evaluate(right, scope, functions))
        case Array(items):
            return _array([evaluate(item, scope, functions) for item in items])
        case FunctionCall(name, arguments):
            if name not in functions:
                raise MathError(f"the function {name} is unknown")
            return functions[name](scope, [_value(item, scope, functions) for item in arguments])


def operate(sign: str, left: Value, right: Value) -> Value:
    """Applies an operator to any two values but two arrays, item by item."""
    if isinstance(left, tuple) and isinstance(right, tuple):
        raise MathError(f"'{sign}' stands between two arrays")
    if isinstance(left, tuple):
        return tuple(_one(operate(sign, item, right)) for item in left)
    if isinstance(right, tuple):
        return tuple(_one(operate(sign, left, item)) for item in right)
    apply = _OPERATORS[sign]
    if isinstance(left, Series) and isinstance(right, Series):
        pairs = ((m, left.values.get(m, 0.0), right.values.get(m, 0.0)) for m in moments_of([left, right]))
        period = max(left.period, right.period)
        return replace(left, period=period).with_values((moment, apply(a, b)) for moment, a, b in pairs)
    if isinstance(left, Series):
        scalar = float(right) if not isinstance(right, Series) else 0.0
        return left.with_values((moment, apply(a, scalar)) for moment, a in left.ordered())
    if isinstance(right, Series):
        return right.with_values((moment, apply(left, b)) for moment, b in right.ordered())
    return apply(left, right)


def _one(value: Value) -> Series:
    assert isinstance(value, Series)
    return value


def _array(values: list[Value]) -> SeriesList:
    series: list[Series] = []
    for value in values:
        if isinstance(value, tuple):
            series.extend(value)
        elif isinstance(value, Series):
            series.append(value)
        else:
            raise MathError("an array holds time series, not scalars")
    return tuple(series)


def _divide(a: float, b: float) -> float:
    return a / b if b else math.nan


def _power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except (ValueError, OverflowError, ZeroDivisionError):
        return math.nan


def _truth(holds: Callable[[float, float], bool]) -> Callable[[float, float], float]:
    def apply(a: float, b: float) -> float:
        return math.nan if math.isnan(a) or math.isnan(b) else float(holds(a, b))

    return apply


_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "^": _power,
    "==": _truth(lambda a, b: a == b),
    "!=": _truth(lambda a, b: a != b),
    "<": _truth(lambda a, b: a < b),
    "<=": _truth(lambda a, b: a <= b),
    ">": _truth(lambda a, b: a > b),
    ">=": _truth(lambda a, b: a >= b),
    "AND": _truth(lambda a, b: bool(a) and bool(b)),
    "OR": _truth(lambda a, b: bool(a) or bool(b)),
}
