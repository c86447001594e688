"""CloudWatch's store of metrics and alarms, and our own way of reading the one and judging the other."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ministack.services import cloudwatch as _cloudwatch
from ministack.services.cloudformation import provisioners as _provisioners

from local.cloud.adapter_types import MetricSample
from local.cloud.ministack_adapter.scope import account_scope
from local.cloud.ministack_adapter.telemetry import emit_event
from local.cloud.retention import MAX_ALARM_HISTORY_ITEMS, MAX_UNSWEPT_SAMPLES, retained_samples

_SWEEP_SECONDS = 120.0
_ONE_METRIC = ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Dimensions", "Unit")

# Metrics come from every thread, and old ones are dropped while they come.
_metrics_lock = threading.RLock()
_evaluators: list[Callable[[], None]] = []
_swept = [time.monotonic()]
_unswept = [0]

ReadMetricData = Callable[[Mapping[str, Any]], list[dict[str, Any]]]


def metric_names() -> list[tuple[str, str, Mapping[str, str]]]:
    """Namespace, name and dimensions of every metric that has samples."""
    with account_scope(), _metrics_lock:
        return [
            (namespace, name, dict(points[0]["Dimensions"]))
            for (namespace, name, _dimensions), points in _cloudwatch._metrics.items()
            if points
        ]


def metric_samples(
    namespace: str, name: str, dimensions: Mapping[str, str], since: float
) -> list[MetricSample]:
    """The samples of one metric from a moment on, in the order they came."""
    key = (namespace, name, _cloudwatch._dims_key(dict(dimensions)))
    with account_scope(), _metrics_lock:
        points = list(_cloudwatch._metrics.get(key) or ())
    return [
        MetricSample(point["Timestamp"], point["Unit"], *_cloudwatch._point_stats(point))
        for point in points
        if point["Timestamp"] >= since
    ]


def set_metric_data_reader(read: ReadMetricData) -> None:
    """Answer GetMetricData through `read(request)`, which gives MetricDataResults with epoch seconds as
    Timestamps and refuses with ValueError. The old query protocol stays the emulator's."""
    original = _cloudwatch._get_metric_data

    def get_metric_data(
        params: dict[str, Any], data: dict[str, Any], is_cbor: bool, is_json: bool = False
    ) -> tuple[Any, ...]:
        if not (is_cbor or is_json):
            return tuple(original(params, data, is_cbor, is_json))
        times = {key: _cloudwatch._parse_ts(data.get(key)) for key in ("StartTime", "EndTime")}
        try:
            results = read(data | times)
        except ValueError as error:
            return _refused(error, is_cbor, is_json)
        if is_cbor:
            encoded = [_cloudwatch._cbor_metric_data_result(result) for result in results]
            return tuple(_cloudwatch._cbor_ok({"MetricDataResults": encoded}))
        return tuple(_cloudwatch._json_ok({"MetricDataResults": results}))

    _cloudwatch._get_metric_data = get_metric_data


def set_alarm_evaluator(evaluate: Callable[[], None], check: Callable[[Mapping[str, Any]], None]) -> None:
    """Judge alarms through `evaluate`, when `evaluate_alarms` is called and at no other time, and let `check`
    refuse (ValueError) an alarm that could not be judged. Alarms may then have `Metrics` (metric math)."""
    _evaluators.append(evaluate)
    _cloudwatch._evaluate_all_alarms = lambda: None
    _cloudwatch._evaluate_alarm = lambda _alarm: None
    _accept_metrics_in_requests(check)
    _accept_metrics_in_templates(check)


def evaluate_alarms() -> None:
    """Bring every alarm's state up to date; blocking, for a worker thread."""
    if time.monotonic() - _swept[0] > _SWEEP_SECONDS or _unswept[0] > MAX_UNSWEPT_SAMPLES:
        _swept[0] = time.monotonic()
        sweep_metrics(time.time())
    for evaluate in _evaluators:
        evaluate()


def alarms() -> list[Mapping[str, Any]]:
    """Every metric alarm, in DescribeAlarms' shape."""
    with account_scope():
        return list(_cloudwatch._alarms.values())


def set_alarm_state(name: str, state: str, reason: str) -> None:
    """Put a metric alarm into another state: history, actions, composite alarms and the event follow. Does
    nothing when the alarm is gone or is in that state already."""
    with account_scope():
        alarm = _cloudwatch._alarms.get(name)
        if alarm is None or alarm["StateValue"] == state:
            return
        old, now = alarm["StateValue"], int(time.time())
        alarm |= {
            "StateValue": state,
            "StateReason": reason,
            "StateUpdatedTimestamp": now,
            "StateTransitionedTimestamp": now,
        }
        _cloudwatch._record_history(name, old, state, reason)
        _cloudwatch._dispatch_alarm_actions(alarm, old, state, reason)
        _cloudwatch._evaluate_parent_alarms(alarm)
    detail = {"alarmName": name, "state": {"value": state, "reason": reason}, "previousState": {"value": old}}
    emit_event("aws.cloudwatch", "CloudWatch Alarm State Change", detail, [alarm["AlarmArn"]])


def bound_metrics() -> None:
    """Let threads publish while old samples are merged or dropped. The emulator copies all samples at each
    request to drop those of two weeks ago; `evaluate_alarms` does it now and then instead."""
    store = _cloudwatch._store_datum

    def store_datum(namespace: str, name: str, dimensions: dict[str, str], *datum: Any) -> None:
        with _metrics_lock:
            known = _cloudwatch._metrics.get((namespace, name, _cloudwatch._dims_key(dimensions)))
            store(namespace, name, known[0]["Dimensions"] if known else dimensions, *datum)
            _unswept[0] += 1

    _cloudwatch._store_datum = store_datum
    _cloudwatch._evict_old_metrics = lambda: None


def sweep_metrics(now: float) -> None:
    """Merge and drop old samples and old items of the alarms' history; blocking, for a worker thread."""
    with account_scope(), _metrics_lock:
        _unswept[0] = 0
        for key, samples in list(_cloudwatch._metrics.items()):
            kept = [one for one in samples if one["Timestamp"] >= now - _cloudwatch.TWO_WEEKS_SECONDS]
            if kept:
                _cloudwatch._metrics[key] = retained_samples(kept, now)
            else:
                del _cloudwatch._metrics[key]
        del _cloudwatch._history_entries()[:-MAX_ALARM_HISTORY_ITEMS]


def _accept_metrics_in_requests(check: Callable[[Mapping[str, Any]], None]) -> None:
    put = _cloudwatch._put_metric_alarm

    def put_metric_alarm(
        params: dict[str, Any], data: dict[str, Any], is_cbor: bool, is_json: bool = False
    ) -> tuple[Any, ...]:
        if not (is_cbor or is_json):
            return tuple(put(params, data, is_cbor, is_json))
        try:
            check({"Period": 60, "Statistic": "Average"} | data)
        except ValueError as error:
            return _refused(error, is_cbor, is_json)
        reply = put(params, data, is_cbor, is_json)
        if reply[0] == 200:
            _normalize(_cloudwatch._alarms[data["AlarmName"]], data)
        return tuple(reply)

    _cloudwatch._put_metric_alarm = put_metric_alarm


def _accept_metrics_in_templates(check: Callable[[Mapping[str, Any]], None]) -> None:
    original = _provisioners._cw_metric_alarm_record

    def record(name: str, properties: dict[str, Any]) -> dict[str, Any]:
        given = dict(properties)
        if metrics := given.pop("Metrics", None):
            metrics = [_typed(query) for query in metrics]
            given |= {"MetricName": "-", "Namespace": "-"}  # the emulator insists on them
        alarm: dict[str, Any] = original(name, given)
        _normalize(alarm, {"Metrics": metrics} | given)
        check(alarm)
        return alarm

    _provisioners._cw_metric_alarm_record = record


def _normalize(alarm: dict[str, Any], given: Mapping[str, Any]) -> None:
    """What the emulator adds to an alarm that does not have it, or drops."""
    if given.get("Metrics"):
        for key in _ONE_METRIC:
            alarm.pop(key, None)
        alarm["Metrics"] = given["Metrics"]
    elif alarm.get("ExtendedStatistic"):
        alarm.pop("Statistic", None)


def _typed(query: Mapping[str, Any]) -> dict[str, Any]:
    """A template's MetricDataQuery: CloudFormation takes numbers and truth values as text, too."""
    typed: dict[str, Any] = json.loads(json.dumps(query))
    for holder in (typed, typed.get("MetricStat", {})):
        if "Period" in holder:
            holder["Period"] = int(holder["Period"])
    if "ReturnData" in typed:
        typed["ReturnData"] = str(typed["ReturnData"]).lower() == "true"
    return typed


def _refused(error: ValueError, is_cbor: bool, is_json: bool) -> tuple[Any, ...]:
    return tuple(_cloudwatch._error("ValidationError", str(error), 400, use_json=is_json, use_cbor=is_cbor))
