"""Metric math against Python's own arithmetic and against the examples of CloudWatch's user guide."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.cloud.cloudwatch.errors import MathError
from local.cloud.cloudwatch.evaluation import EvaluationScope, Value, evaluate
from local.cloud.cloudwatch.expression import parse
from local.cloud.cloudwatch.functions import FUNCTIONS
from local.cloud.cloudwatch.series import Series, Window

PERIOD = 60
_ = None
NUMBERS = st.integers(-50, 50)


def series(*values: float | None, start: int = 0) -> Series:
    """Values one minute apart; None where there is none."""
    points = {start + PERIOD * i: float(v) for i, v in enumerate(values) if v is not None}
    return Series(points, PERIOD)


def value(text: str, minutes: int = 5, **named: Series) -> Value:
    def resolve(id: str) -> Value:
        if id not in named:
            raise MathError(id)
        return named[id]

    window = Window(0, minutes * PERIOD)
    scope = EvaluationScope(window, PERIOD, named, resolve, lambda *_: tuple(named.values()))
    return evaluate(parse(text), scope, FUNCTIONS)


def points(text: str, minutes: int = 5, **named: Series) -> list[float | None]:
    found = value(text, minutes, **named)
    assert isinstance(found, Series)
    return [found.values.get(minute * PERIOD) for minute in range(minutes)]


EXPRESSIONS = st.recursive(
    NUMBERS.map(lambda n: str(n) if n >= 0 else f"({n})"),
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
        | st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"{t[0]} {t[1]} {t[2]}")
        | inner.map(lambda one: f"-{one}" if one[0] != "-" else one)
    ),
    max_leaves=12,
)


@given(EXPRESSIONS)
def test_scalars_are_computed_as_python_computes_them(text: str) -> None:
    found = value(text)
    assert isinstance(found, float)
    try:
        expected = float(eval(text))
    except ZeroDivisionError:
        # What is made of an undefined number is undefined, whatever it is made into.
        assert not math.isfinite(found)
        return
    assert found == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.none() | NUMBERS, max_size=5), st.lists(st.none() | NUMBERS, max_size=5))
def test_two_series_meet_where_either_has_a_value_and_no_point_divides_by_zero(
    left: list, right: list
) -> None:
    a, b = series(*left), series(*right)
    moments = a.values.keys() | b.values.keys()
    for sign in "+-*/":
        found = value(f"a {sign} b", a=a, b=b)
        assert isinstance(found, Series)
        expected = {}
        for moment in moments:
            x, y = a.values.get(moment, 0.0), b.values.get(moment, 0.0)
            if sign != "/" or y:
                expected[moment] = {"+": x + y, "-": x - y, "*": x * y, "/": x / (y or 1)}[sign]
        assert found.values == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metric1 < metric2", [0, 0, 1, 0]),
        ("metric1 >= 30", [1, 0, 0, 0]),
        ("metric1 > 15 AND metric2 > 15", [1, 0, 0, 0]),
        ("metric1 > 25 || metric2 > 15", [1, 0, 1, 0]),
    ],
)
def test_comparisons_as_the_user_guide_shows_them(text: str, expected: list) -> None:
    assert points(text, 4, metric1=series(30, 20, 0, 0), metric2=series(20, _, 20, _)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IF(m1, m2, m3)", [30, 0, 20, _, _]),
        ("IF(m1, 5, m3)", [5, 5, 20, _, _]),
        ("IF(m1, m2, 5)", [30, 0, 5, 5, _]),
        ("IF(m1, m2)", [30, 0, _, _, _]),
        ("IF(0, m2, m3)", [0, 0, 20, _, 20]),
        ("IF(1, m2)", [30, _, 0, 0, 30]),
        ("IF(0, m2)", [_, _, _, _, _]),
    ],
)
def test_if_as_the_user_guide_shows_it(text: str, expected: list) -> None:
    named = {"m1": series(1, 1, 0, 0, _), "m2": series(30, _, 0, 0, 30), "m3": series(0, 0, 20, _, 20)}
    assert points(text, **named) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FILL(m, 7)", [7, 10, 7, 40, 7]),
        ("FILL(m, REPEAT)", [_, 10, 10, 40, 40]),
        ("FILL(m, LINEAR)", [_, 10, 25, 40, _]),
        ("FILL(m, other)", [1, 10, 3, 40, _]),
        ("FILL(m, MIN(m))", [10, 10, 10, 40, 10]),
        ("m - AVG(m)", [_, -15, _, 15, _]),
        ("SUM(m) / m", [_, 5, _, 1.25, _]),
        ("SUM([m, other])", [1, 12, 3, 44, _]),
        ("AVG([m, other])", [0.5, 6, 1.5, 22, _]),
        ("MAX([m, other])", [1, 10, 3, 40, _]),
        ("DATAPOINT_COUNT([m, other])", [1, 2, 1, 2, _]),
        ("RATE(m)", [_, _, _, 0.25, _]),
        ("DIFF(m) / DIFF_TIME(m)", [_, _, _, 0.25, _]),
        ("RUNNING_SUM(other)", [1, 3, 6, 10, _]),
        ("ABS(-m)", [_, 10, _, 40, _]),
        ("LOG10(m * 0)", [_, _, _, _, _]),
        ("m / PERIOD(m) * 60", [_, 10, _, 40, _]),
        ("TIME_SERIES(SUM(m))", [50, 50, 50, 50, 50]),
        ("FIRST(SEARCH('{N,d}', 'Sum', 60))", [_, 10, _, 40, _]),
        ('SUM(METRICS("oth"))', [1, 2, 3, 4, _]),
        ("m / METRIC_COUNT(METRICS())", [_, 5, _, 20, _]),
        ("2 ^ 3 ^ 0 * other", [2, 4, 6, 8, _]),
        ("-2 ^ 2 * other", [-4, -8, -12, -16, _]),
    ],
)
def test_functions(text: str, expected: list) -> None:
    assert points(text, m=series(_, 10, _, 40, _), other=series(1, 2, 3, 4)) == expected


def test_fill_gives_points_even_where_nothing_was_ever_published() -> None:
    assert points("FILL(m, 0)", m=series()) == [0, 0, 0, 0, 0]


def test_an_array_is_computed_item_by_item() -> None:
    found = value("METRICS() * 2", a=series(1), b=series(_, 3))
    assert isinstance(found, tuple)
    assert [one.values for one in found] == [{0: 2.0}, {60: 6.0}]


@pytest.mark.parametrize(
    "text",
    ["", "1 +", "m1 m2", "(m1", "m1)", "SUM(m1", "[m1, 2]", "METRICS() + METRICS()", "m1 § 2",
     "__import__('os')", "EVAL(m1)", "FILL(m1, SOMETHING)", "IF(m1)", "'text'", "SUM()", "OR m1", "m1 AND",
     "unknown + 1", "(" * 200 + "m1" + ")" * 200, "m1 + " * 600 + "m1"],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(MathError):
        value(text, m1=series(1), m2=series(2))


def test_periods_of_a_window_begin_where_its_origin_says() -> None:
    assert list(Window(5, 27, origin=7).moments(10)) == [7, 17]
    assert Window(0, 100, origin=7).period_of(6.9, 10) == -3
    assert Window(0, 100).period_of(19.999, 10) == 10
