"""Puts metric math into the emulator: GetMetricData, and the alarms that are judged every few seconds."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from local.cloud import ministack_adapter
from local.cloud.cloudwatch.alarm_state import (
    EVERY_SECONDS,
    EXTRA_PERIODS,
    LATE_SECONDS,
    AlarmRule,
    evaluate_state,
    evaluation_times,
    queries_of,
    reason,
)
from local.cloud.cloudwatch.errors import ValidationError
from local.cloud.cloudwatch.metric_data import MetricDataResults, answer, results_of
from local.cloud.cloudwatch.search import MetricName
from local.cloud.cloudwatch.series import Window

TICK_SECONDS = 2.0
_log = logging.getLogger("evergreen.cloud")


class _PublishedMetrics:
    """The emulator's metrics as a store."""

    def samples(self, metric: MetricName, since: float) -> Iterable[ministack_adapter.MetricSample]:
        return ministack_adapter.metric_samples(metric.namespace, metric.name, metric.dimensions, since)

    def metrics(self) -> Iterable[MetricName]:
        return [MetricName(*names) for names in ministack_adapter.metric_names()]


_PUBLISHED = _PublishedMetrics()


def register() -> None:
    """Answer GetMetricData; judge alarms from the server's start to its end."""
    evaluator = _AlarmEvaluator()
    ministack_adapter.bound_metrics()
    ministack_adapter.set_metric_data_reader(_metric_data)
    ministack_adapter.set_alarm_evaluator(evaluator.evaluate, _check_alarm)
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        tasks.append(asyncio.create_task(_evaluate_every_few_seconds()))

    async def stop() -> None:
        for task in tasks:
            task.cancel()

    ministack_adapter.on_startup(start)
    ministack_adapter.on_shutdown(stop)


async def _evaluate_every_few_seconds() -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        try:
            # On a worker thread: an alarm's action may run a function, and that takes its time.
            await asyncio.to_thread(ministack_adapter.evaluate_alarms)
        except Exception:  # noqa: BLE001 - one evaluation that fails must not end the others
            _log.exception("the alarms could not be evaluated this time")


def _metric_data(request: Mapping[str, Any]) -> MetricDataResults:
    start, end = request.get("StartTime"), request.get("EndTime")
    if start is None or end is None or start >= end:
        raise ValidationError("The parameter StartTime must be less than the parameter EndTime.")
    return results_of(request, answer(request.get("MetricDataQueries", []), _window(start, end), _PUBLISHED))


def _window(start: float, end: float) -> Window:
    return Window(int(start), int(end))


def _check_alarm(alarm: Mapping[str, Any]) -> None:
    AlarmRule.of(alarm)
    queries_of(alarm)


class _AlarmEvaluator:
    """Judges all alarms at the moments that are due, however late it is called."""

    def __init__(self) -> None:
        self._last = 0
        self._one_at_a_time = threading.Lock()

    def evaluate(self) -> None:
        """Every alarm at every moment that has come since the last time."""
        with self._one_at_a_time:
            for moment in evaluation_times(self._last, time.time()):
                for alarm in ministack_adapter.alarms():
                    _evaluate(alarm, moment)
                self._last = moment


def latest_point(alarm: Mapping[str, Any]) -> float | None:
    """The newest data point that an alarm looks at: of the last period that has ended, or one before."""
    moment = int((time.time() - LATE_SECONDS) // EVERY_SECONDS) * EVERY_SECONDS
    points = [value for value in _points(alarm, moment) if value is not None]
    return points[-1] if points else None


def _evaluate(alarm: Mapping[str, Any], moment: int) -> None:
    """One alarm, by the periods that end at a moment."""
    try:
        rule, points = AlarmRule.of(alarm), _points(alarm, moment)
    except ValidationError:
        _log.exception("the alarm %s cannot be evaluated", alarm["AlarmName"])
        return
    state = evaluate_state(points, rule, alarm["StateValue"])
    if state != alarm["StateValue"]:
        ministack_adapter.set_alarm_state(alarm["AlarmName"], state, reason(points, rule, state))


def _points(alarm: Mapping[str, Any], moment: int) -> list[float | None]:
    """An alarm's data points in the periods that end at a moment, oldest first. Raises ValidationError."""
    queries, period = queries_of(alarm)
    looked_at = AlarmRule.of(alarm).periods + EXTRA_PERIODS
    window = Window(moment - looked_at * period, moment, origin=moment)
    (line,) = answer(queries, window, _PUBLISHED)
    return [line.series.values.get(start) for start in window.moments(period)]
