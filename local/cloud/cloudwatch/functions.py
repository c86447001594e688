"""The functions of metric math, by name. Others are refused by name: none answers with a guess."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise

from local.cloud.cloudwatch.errors import MathError
from local.cloud.cloudwatch.evaluation import Argument, EvaluationScope, Function, SeriesList, Value
from local.cloud.cloudwatch.expression import Text, Word
from local.cloud.cloudwatch.series import Series, moments_of


def _each(change: Callable[[Series], Series]) -> Function:
    """A function that changes one series, or each of an array."""

    def call(_scope: EvaluationScope, arguments: list[Argument]) -> Value:
        (value,) = _exactly(1, arguments)
        if isinstance(value, tuple):
            return tuple(change(one) for one in value)
        return change(_series(value))

    return call


def _pointwise(change: Callable[[float], float]) -> Function:
    return _each(lambda one: one.with_values((m, _defined(change, v)) for m, v in one.ordered()))


def _defined(change: Callable[[float], float], value: float) -> float:
    try:
        return change(value)
    except ValueError:
        return math.nan


def _reducing(reduce: Callable[[Sequence[float]], float], *, missing_is_zero: bool = False) -> Function:
    """A scalar of one series' values; of an array, a series of what the series have at each moment."""

    def call(_scope: EvaluationScope, arguments: list[Argument]) -> Value:
        (value,) = _exactly(1, arguments)
        if not isinstance(value, tuple):
            values = list(_series(value).values.values())
            return reduce(values) if values else math.nan
        points = []
        for moment in moments_of(value):
            found = [one.values[moment] for one in value if moment in one.values]
            if missing_is_zero:
                found += [0.0] * (len(value) - len(found))
            points.append((moment, reduce(found)))
        return Series({}, max((one.period for one in value), default=1)).with_values(points)

    return call


def _stddev(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _per_step(between: Callable[[tuple[int, float], tuple[int, float]], float]) -> Function:
    return _each(
        lambda one: one.with_values(
            (later[0], between(one_, later)) for one_, later in pairwise(one.ordered())
        )
    )


def _running_sum(one: Series) -> Series:
    points = one.ordered()
    return one.with_values(zip((m for m, _ in points), accumulate(v for _, v in points), strict=True))


def _fill(scope: EvaluationScope, arguments: list[Argument]) -> Value:
    """Every period of the window has a value afterwards, if the filler has one for it."""
    value, filler = _exactly(2, arguments)
    if isinstance(value, tuple):
        return tuple(_filled(scope, one, filler) for one in value)
    return _filled(scope, _series(value), filler)


def _filled(scope: EvaluationScope, one: Series, filler: Argument) -> Series:
    moments = scope.window.moments(one.period)
    match filler:
        case Word("REPEAT"):
            return one.with_values(_repeated(one, moments))
        case Word("LINEAR"):
            return one.with_values(_interpolated(one, moments))
        case Series():
            return one.with_values(({**filler.values} | {**one.values}).items())
        case float():
            return one.with_values((m, one.values.get(m, filler)) for m in moments)
    raise MathError("FILL takes a number, a time series, REPEAT or LINEAR")


def _repeated(one: Series, moments: Iterable[int]) -> Iterable[tuple[int, float]]:
    last: float | None = None
    for moment in moments:
        last = one.values.get(moment, last)
        if last is not None:
            yield moment, last


def _interpolated(one: Series, moments: Iterable[int]) -> Iterable[tuple[int, float]]:
    yield from one.values.items()
    for (before, low), (after, high) in pairwise(one.ordered()):
        for moment in moments:
            if before < moment < after:
                yield moment, low + (high - low) * (moment - before) / (after - before)


def _if(_scope: EvaluationScope, arguments: list[Argument]) -> Value:
    """Where the condition holds, the second argument (0 where it is missing); elsewhere the third, if any."""
    if len(arguments) not in (2, 3):
        raise MathError("IF takes a condition and one or two values")
    condition, chosen, *rest = arguments
    other = rest[0] if rest else None
    if isinstance(condition, float):
        picked = chosen if condition else other
        return Series({}, 1) if picked is None else _value(picked)
    points = []
    for moment, holds in _series(condition).ordered():
        value = _at(chosen, moment, 0.0) if holds else _at(other, moment, None)
        if value is not None:
            points.append((moment, value))
    return _series(condition).with_values(points)


def _at(value: Argument | None, moment: int, missing: float | None) -> float | None:
    if value is None or isinstance(value, float):
        return value
    return _series(value).values.get(moment, missing)


def _metrics(scope: EvaluationScope, arguments: list[Argument]) -> Value:
    if not arguments:
        return tuple(scope.metrics.values())
    (part,) = _exactly(1, arguments)
    if not isinstance(part, Text):
        raise MathError("METRICS takes nothing or a quoted part of ids")
    return tuple(series for name, series in scope.metrics.items() if part.value in name)


def _search(scope: EvaluationScope, arguments: list[Argument]) -> Value:
    query, statistic, *rest = arguments if len(arguments) in (2, 3) else [None, None]
    period = rest[0] if rest else float(scope.period)
    if not (isinstance(query, Text) and isinstance(statistic, Text) and isinstance(period, float)):
        raise MathError("SEARCH takes a quoted search, a quoted statistic and a period")
    return scope.search(query.value, statistic.value, int(period))


def _period(_scope: EvaluationScope, arguments: list[Argument]) -> Value:
    return float(_series(_exactly(1, arguments)[0]).period)


def _metric_count(_scope: EvaluationScope, arguments: list[Argument]) -> Value:
    return float(len(_many(_exactly(1, arguments)[0])))


def _time_series(scope: EvaluationScope, arguments: list[Argument]) -> Value:
    (value,) = _exactly(1, arguments)
    if not isinstance(value, float):
        raise MathError("TIME_SERIES takes a scalar")
    moments = scope.window.moments(scope.period)
    return Series({}, scope.period).with_values((moment, value) for moment in moments)


def _picked(position: int) -> Function:
    def call(scope: EvaluationScope, arguments: list[Argument]) -> Value:
        series = _many(_exactly(1, arguments)[0])
        return series[position] if series else Series({}, scope.period)

    return call


def _remove_empty(_scope: EvaluationScope, arguments: list[Argument]) -> Value:
    return tuple(one for one in _many(_exactly(1, arguments)[0]) if one.values)


def _exactly(count: int, arguments: list[Argument]) -> list[Argument]:
    if len(arguments) != count:
        raise MathError(f"{count} arguments are expected, {len(arguments)} are given")
    return arguments


def _series(value: Argument) -> Series:
    if not isinstance(value, Series):
        raise MathError("a single time series is expected")
    return value


def _many(value: Argument) -> SeriesList:
    if not isinstance(value, tuple):
        raise MathError("an array of time series is expected")
    return value


def _value(value: Argument) -> Value:
    if isinstance(value, Text | Word):
        raise MathError("a word or a quoted text is no value")
    return value


FUNCTIONS: dict[str, Function] = {
    "ABS": _pointwise(abs),
    "AVG": _reducing(lambda values: math.fsum(values) / len(values), missing_is_zero=True),
    "CEIL": _pointwise(math.ceil),
    "DATAPOINT_COUNT": _reducing(lambda values: float(len(values))),
    "DIFF": _per_step(lambda before, after: after[1] - before[1]),
    "DIFF_TIME": _per_step(lambda before, after: float(after[0] - before[0])),
    "FILL": _fill,
    "FIRST": _picked(0),
    "FLOOR": _pointwise(math.floor),
    "IF": _if,
    "LAST": _picked(-1),
    "LOG": _pointwise(math.log),
    "LOG10": _pointwise(math.log10),
    "MAX": _reducing(max),
    "METRICS": _metrics,
    "METRIC_COUNT": _metric_count,
    "MIN": _reducing(min),
    "PERIOD": _period,
    "RATE": _per_step(lambda before, after: (after[1] - before[1]) / (after[0] - before[0])),
    "REMOVE_EMPTY": _remove_empty,
    "RUNNING_SUM": _each(_running_sum),
    "SEARCH": _search,
    "STDDEV": _reducing(_stddev),
    "SUM": _reducing(math.fsum),
    "TIME_SERIES": _time_series,
}
