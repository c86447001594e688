"""`GetMetricData`'s queries, answered over a store of samples: metrics, expressions and searches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from local.cloud.adapter_types import MetricSample as Sample
from local.cloud.cloudwatch import expression
from local.cloud.cloudwatch.errors import MathError, ValidationError
from local.cloud.cloudwatch.evaluation import EvaluationScope, SeriesList, Value, evaluate
from local.cloud.cloudwatch.functions import FUNCTIONS
from local.cloud.cloudwatch.search import MetricName, matching
from local.cloud.cloudwatch.series import Series, Window
from local.cloud.cloudwatch.statistics import by_period, check_statistic

MAX_QUERIES = 500
MAX_SERIES = 500
DEFAULT_PERIOD_SECONDS = 60
_HIGH_RESOLUTION = (1, 5, 10, 20, 30)
_ID = re.compile(r"[a-z][a-zA-Z0-9_]{0,254}")


class Store(Protocol):
    """What was published."""

    def samples(self, metric: MetricName, since: float) -> Iterable[Sample]:
        """The samples of one metric from a moment on, in any order."""

    def metrics(self) -> Iterable[MetricName]:
        """Every metric that has samples."""


MetricDataResults = list[dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """One line: the id of the query it belongs to, and its series. Several lines may share an id."""

    id: str
    series: Series


def answer(queries: Sequence[Mapping[str, Any]], window: Window, store: Store) -> list[Result]:
    """The lines that the queries ask for (`ReturnData`), in their order; `queries` are MetricDataQueries.

    Raises ValidationError.
    """
    check(queries)
    request = _Request(queries, window, store)
    return [
        Result(query["Id"], series)
        for query in queries
        if query.get("ReturnData", True)
        for series in request.lines(query["Id"])
    ]


def results_of(request: Mapping[str, Any], lines: Sequence[Result]) -> MetricDataResults:
    """The lines in the reply's shape, Timestamps in epoch seconds, newest first unless the request's `ScanBy`
    says otherwise."""
    oldest_first = request.get("ScanBy") == "TimestampAscending"
    results = []
    for line in lines:
        points = line.series.ordered() if oldest_first else line.series.ordered()[::-1]
        results.append(
            {
                "Id": line.id,
                "Label": line.series.label or line.id,
                "Timestamps": [moment for moment, _ in points],
                "Values": [value for _, value in points],
                "StatusCode": "Complete",
            }
        )
    return results


def check(queries: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValidationError for queries that are malformed, name each other wrongly or in a circle."""
    if not 1 <= len(queries) <= MAX_QUERIES:
        raise ValidationError(f"A request has between 1 and {MAX_QUERIES} MetricDataQueries.")
    ids = [str(query.get("Id", "")) for query in queries]
    for wrong in (one for one in ids if not _ID.fullmatch(one)):
        raise ValidationError(f"The value {wrong} for parameter Id is not matching the expected pattern.")
    if len(set(ids)) < len(ids):
        raise ValidationError("The parameter Id must be unique within MetricDataQueries.")
    named = {str(query["Id"]): _named_by(query) for query in queries}
    for one, others in named.items():
        for other in others:
            if other not in named:
                raise MathError(f"Error in expression '{one}': Unresolved identifier '{other}'")
    for one in ids:
        _refuse_circle(one, named, [])


def _named_by(query: Mapping[str, Any]) -> list[str]:
    if ("Expression" in query) == ("MetricStat" in query):
        raise ValidationError(f"The query {query['Id']} must have either Expression or MetricStat.")
    if "Expression" not in query:
        statistic = query["MetricStat"]
        check_statistic(statistic["Stat"])
        _check_period(statistic["Period"])
        return []
    if "Period" in query:
        _check_period(query["Period"])
    try:
        tree = expression.parse(query["Expression"])
    except MathError as error:
        raise MathError(f"Error in expression '{query['Id']}': {error}") from None
    return list(expression.references(tree))


def _check_period(period: Any) -> None:
    if not isinstance(period, int) or (period not in _HIGH_RESOLUTION and (period < 1 or period % 60)):
        raise ValidationError(f"Period must be 1, 5, 10, 20, 30 or a multiple of 60, not {period}.")


def _refuse_circle(id: str, named: Mapping[str, Sequence[str]], path: list[str]) -> None:
    if id in path:
        raise MathError(f"Error in expression '{path[0]}': Circular dependency detected.")
    for other in named[id]:
        _refuse_circle(other, named, [*path, id])


class _Request:
    """The queries of one request, each computed once."""

    def __init__(self, queries: Sequence[Mapping[str, Any]], window: Window, store: Store) -> None:
        self._queries = {str(query["Id"]): query for query in queries}
        self._window, self._store = window, store
        self._metrics = {
            one: self._metric(query["MetricStat"], query.get("Label"))
            for one, query in self._queries.items()
            if "MetricStat" in query
        }
        self._values: dict[str, Value] = dict(self._metrics)

    def lines(self, id: str) -> SeriesList:
        """The series of one query. Raises MathError if it is a scalar."""
        value = self._resolve(id)
        if isinstance(value, float):
            raise MathError(f"Error in expression '{id}': it is a scalar and not a time series")
        if isinstance(value, Series):
            return (value,)
        if len(value) > MAX_SERIES:
            raise MathError(f"Error in expression '{id}': it has more than {MAX_SERIES} time series")
        return value

    def _resolve(self, id: str) -> Value:
        if id not in self._values:
            self._values[id] = self._computed(id, self._queries[id])
        return self._values[id]

    def _computed(self, id: str, query: Mapping[str, Any]) -> Value:
        period = query.get("Period") or max(
            (series.period for series in self._metrics.values()), default=DEFAULT_PERIOD_SECONDS
        )
        scope = EvaluationScope(self._window, period, self._metrics, self._resolve, self._search)
        try:
            value = evaluate(expression.parse(query["Expression"]), scope, FUNCTIONS)
        except MathError as error:
            # One that another query's expression raised names that one already.
            text = str(error)
            full = text if text.startswith("Error in") else f"Error in expression '{id}': {text}"
            raise MathError(full) from None
        return _labelled(value, query.get("Label"), id)

    def _metric(self, query: Mapping[str, Any], label: str | None) -> Series:
        metric = query["Metric"]
        dimensions = {item["Name"]: item["Value"] for item in metric.get("Dimensions") or []}
        name = MetricName(metric["Namespace"], metric["MetricName"], dimensions)
        series = self._series(name, query["Stat"], query["Period"], query.get("Unit"))
        return replace(series, label=label or name.name)

    def _series(self, metric: MetricName, statistic: str, period: int, unit: str | None = None) -> Series:
        samples = self._store.samples(metric, self._window.period_of(self._window.start, period))
        wanted = (sample for sample in samples if unit in (None, sample.unit))
        values = by_period(wanted, statistic, period, self._window)
        return Series(values, period, metric.name, metric.dimensions)

    def _search(self, query: str, statistic: str, period: int) -> SeriesList:
        _check_period(period)
        found = matching(query, self._store.metrics())
        lines = [self._series(metric, statistic, period) for metric in found]
        return tuple(_distinguished([line for line in lines if line.values]))


def _labelled(value: Value, label: str | None, id: str) -> Value:
    """An array's lines keep their own labels behind the query's."""
    if isinstance(value, float):
        return value
    if isinstance(value, Series):
        return replace(value, label=label if label is not None else id)
    return tuple(replace(one, label=f"{label or ''} {one.label}".strip()) for one in value)


def _distinguished(lines: Sequence[Series]) -> list[Series]:
    """Labels of what differs between the lines: the values of the dimensions that are not all the same."""
    keys = sorted({key for line in lines for key in line.dimensions})
    varying = [key for key in keys if len({line.dimensions.get(key) for line in lines}) > 1]
    if not varying:
        return list(lines)
    return [replace(line, label=" ".join(line.dimensions.get(key, "-") for key in varying)) for line in lines]
