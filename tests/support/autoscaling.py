"""Application Auto Scaling with a clock of its own, real alarm rules, and a fleet that is a number.

Metrics are kept here and judged by the very code that judges the laptop cloud's alarms, so an hour of load
takes a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local.autoscaling.api import AutoScalingApi
from local.autoscaling.ports import Alarm, ResourceBusyError, ScalableResource
from local.autoscaling.scaler import Scaler
from local.autoscaling.store import ScalingStore
from local.cloud.adapter_types import MetricSample
from local.cloud.cloudwatch.alarm_state import (
    EVERY_SECONDS,
    EXTRA_PERIODS,
    AlarmRule,
    evaluate_state,
    queries_of,
)
from local.cloud.cloudwatch.metric_data import answer
from local.cloud.cloudwatch.search import MetricName
from local.cloud.cloudwatch.series import Window
from local.sagemaker.errors import invalid
from local.sagemaker.store import Identity

IDENTITY = Identity("123456789012", "us-east-1")
RESOURCE = "endpoint/e/variant/champion"
COUNT = "sagemaker:variant:DesiredInstanceCount"
COMPONENT = "inference-component/alpha"
COPIES = "sagemaker:inference-component:DesiredCopyCount"
TARGET = {"ServiceNamespace": "sagemaker", "ResourceId": RESOURCE, "ScalableDimension": COUNT}
COMPONENT_TARGET = {"ServiceNamespace": "sagemaker", "ResourceId": COMPONENT, "ScalableDimension": COPIES}
DIMENSIONS = {"EndpointName": "e", "VariantName": "champion"}
SCALABLES = {
    (RESOURCE, COUNT): ScalableResource(1, DIMENSIONS),
    (COMPONENT, COPIES): ScalableResource(0, {"InferenceComponentName": "alpha"}),
}
START = 1_700_000_000.0  # a whole number of ten seconds


class FakeResources:
    """Capacities by resource. `busy` refuses changes, `broken` fails them."""

    def __init__(self) -> None:
        self.capacities: dict[str, int] = {RESOURCE: 1, COMPONENT: 1}
        self.busy = self.broken = False

    def scalable(self, resource_id: str, dimension: str) -> ScalableResource:
        if (resource_id, dimension) not in SCALABLES or resource_id not in self.capacities:
            raise invalid(f"{resource_id} is not there")
        return SCALABLES[resource_id, dimension]

    def capacity(self, resource_id: str, dimension: str) -> int:
        self.scalable(resource_id, dimension)
        return self.capacities[resource_id]

    async def set_capacity(self, resource_id: str, dimension: str, capacity: int) -> None:
        if self.busy:
            raise ResourceBusyError("The endpoint is Updating.")
        if self.broken:
            raise invalid("no instance can be had")
        self.capacities[resource_id] = capacity


class FakeCloudWatch:
    """Metrics and alarms in memory."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: dict[tuple[str, str, tuple], list[MetricSample]] = {}
        self.alarms: dict[str, dict[str, Any]] = {}

    def publish(self, namespace: str, metric: str, value: float, dimensions: Mapping[str, str]) -> None:
        key = (namespace, metric, tuple(sorted(dimensions.items())))
        sample = MetricSample(self._clock(), "Count", 1, value, value, value)
        self._samples.setdefault(key, []).append(sample)

    def samples(self, metric: MetricName, since: float) -> list[MetricSample]:
        key = (metric.namespace, metric.name, tuple(sorted(metric.dimensions.items())))
        return [sample for sample in self._samples.get(key, []) if sample.moment >= since]

    def metrics(self) -> list[MetricName]:
        return []

    def all(self) -> Sequence[Alarm]:
        return list(self.alarms.values())

    def latest(self, alarm: Alarm) -> float | None:
        points = [value for value in self._points(alarm) if value is not None]
        return points[-1] if points else None

    def put(self, alarm: Alarm) -> None:
        fresh = {"StateValue": "INSUFFICIENT_DATA", "StateTransitionedTimestamp": self._clock()}
        self.alarms[alarm["AlarmName"]] = dict(alarm) | fresh

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            self.alarms.pop(name, None)

    def judge(self) -> None:
        """Judge every alarm by the periods that end now."""
        for alarm in self.alarms.values():
            state = evaluate_state(self._points(alarm), AlarmRule.of(alarm), alarm["StateValue"])
            if state != alarm["StateValue"]:
                alarm |= {"StateValue": state, "StateTransitionedTimestamp": self._clock()}

    def _points(self, alarm: Alarm) -> list[float | None]:
        queries, period = queries_of(alarm)
        end = int(self._clock())
        window = Window(end - (AlarmRule.of(alarm).periods + EXTRA_PERIODS) * period, end, origin=end)
        (line,) = answer(queries, window, self)
        return [line.series.values.get(start) for start in window.moments(period)]


class AutoScalingHarness:
    """Time passes when `pass_time` says so."""

    def __init__(self) -> None:
        self.now = START
        self.resources, self.watch = FakeResources(), FakeCloudWatch(lambda: self.now)
        self.store = ScalingStore(IDENTITY)
        self.roles_made = 0
        self.control = AutoScalingApi(self.store, self.resources, self.watch, "arn:role", self._make_role)
        self.scaler = Scaler(self.store, self.resources, self.watch, lambda: self.now)

    def _make_role(self) -> None:
        self.roles_made += 1

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return await self.control.call(operation, request)

    async def register(self, min_capacity: int = 1, max_capacity: int = 4, **more: Any) -> None:
        await self.call(
            "RegisterScalableTarget", **(TARGET | more), MinCapacity=min_capacity, MaxCapacity=max_capacity
        )

    async def policy(
        self, name: str = "p", kind: str = "TargetTrackingScaling", **more: Any
    ) -> dict[str, Any]:
        field = f"{kind}PolicyConfiguration"
        target = more.pop("target", TARGET)
        return await self.call(
            "PutScalingPolicy", PolicyName=name, PolicyType=kind, **target, **{field: more}
        )

    async def pass_time(self, seconds: float, load: Callable[[int], float] | None = None) -> None:
        """Ten seconds at a time: publish the load per unit of capacity, judge, scale. `load` takes the
        capacity."""
        for _ in range(int(seconds // EVERY_SECONDS)):
            self.now += EVERY_SECONDS - 1
            if load is not None:
                value = load(self.capacity)
                self.watch.publish("AWS/SageMaker", "ConcurrentRequestsPerModel", value, DIMENSIONS)
            self.now += 1
            self.watch.judge()
            self.scaler.tick()
            await self.scaler.settle()

    @property
    def capacity(self) -> int:
        return self.resources.capacities[RESOURCE]

    async def activities(self, **more: Any) -> list[dict[str, Any]]:
        found = await self.call("DescribeScalingActivities", ServiceNamespace="sagemaker", **more)
        return list(found["ScalingActivities"])


def scenario(test: Callable[[AutoScalingHarness], Any]) -> Callable[[], None]:
    """Makes a pytest test of a coroutine that takes a harness."""

    def run() -> None:
        asyncio.run(test(AutoScalingHarness()))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
