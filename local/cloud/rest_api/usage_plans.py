"""API keys, usage plans and throttles: who may call how often.

Rates refill token buckets (`rateLimit` per second, at most `burstLimit` at once); quotas count per key and
calendar period in UTC. A plan's `offset` is not offered. Knows nothing of HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local.cloud.rest_api.configuration import Method
from local.cloud.rest_api.gateway_responses import GatewayError
from local.cloud.rest_api.request_context import RequestContext


@dataclass(frozen=True)
class Limits:
    """A rate per second and a burst; a negative rate or burst means no limit."""

    rate: float
    burst: float


@dataclass(frozen=True)
class Plan:
    """A usage plan as it covers one stage. `methods` limits single methods, by `/path/VERB`."""

    id: str
    throttle: Limits | None
    methods: Mapping[str, Limits]
    quota: int | None
    period: str
    keys: Mapping[str, Mapping[str, Any]]


def parse_plan(raw: Mapping[str, Any], keys: Sequence[Mapping[str, Any]], api_id: str, stage: str) -> Plan:
    """Parse a plan as `get_usage_plan` returns it; keys are found by their value."""
    covered: Mapping[str, Any] = next(
        (
            item
            for item in raw.get("apiStages") or []
            if item.get("apiId") == api_id and item.get("stage") == stage
        ),
        {},
    )
    quota = raw.get("quota") or {}
    methods = {path: parse_limits(item) for path, item in (covered.get("throttle") or {}).items()}
    return Plan(
        id=raw["id"],
        throttle=parse_limits(raw.get("throttle") or {}),
        methods={path: limits for path, limits in methods.items() if limits},
        quota=int(quota["limit"]) if quota.get("limit") is not None else None,
        period=(quota.get("period") or "DAY").upper(),
        keys={item["value"]: item for item in keys},
    )


def parse_limits(raw: Mapping[str, Any]) -> Limits | None:
    """Limits in the API's or CloudFormation's spelling; None when neither rate nor burst is given."""
    lowered = {name.lower().removeprefix("throttling"): value for name, value in raw.items()}
    rate, burst = lowered.get("ratelimit"), lowered.get("burstlimit")
    if rate is None and burst is None:
        return None
    return Limits(float(rate if rate is not None else -1), float(burst if burst is not None else -1))


class UsageMeter:
    """Token buckets and quota counters of this process; quotas survive a restart through save and load."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, ...], tuple[float, float]] = {}
        self._used: dict[str, tuple[str, int]] = {}

    def admit(self, call: RequestContext, plans: Sequence[Plan]) -> None:
        """Identify the key where the method asks for one, and count the call; raises GatewayError."""
        assert call.method is not None
        verb = call.request.method
        if call.method.api_key_required:
            plan, key = _find_key(call, plans)
            call.api_key = key
            method_limits = plan.methods.get(f"{call.method.resource_path}/{verb}")
            slot = (plan.id, str(key["id"]))
            self._take(slot, plan.throttle)
            self._take((*slot, call.resource_path, verb), method_limits)
            self._take_stage(call, call.method)
            self._count(plan, str(key["id"]))
        else:
            self._take_stage(call, call.method)

    def save(self) -> dict[str, Any]:
        """The quota counters as JSON data."""
        return {key: list(value) for key, value in self._used.items()}

    def load(self, data: Mapping[str, Any]) -> None:
        """Take back what `save` gave."""
        self._used = {key: (str(period), int(used)) for key, (period, used) in data.items()}

    def _take_stage(self, call: RequestContext, method: Method) -> None:
        for verb in (call.request.method, method.http_method, "*"):
            path = "*" if verb == "*" else method.resource_path
            settings = call.stage.method_settings.get(f"{path}/{verb}")
            if settings and (limits := parse_limits(settings)):
                slot = (call.api.id, call.stage.name, method.resource_path, method.http_method)
                self._take(slot, limits)
                return

    def _take(self, slot: tuple[str, ...], limits: Limits | None) -> None:
        if limits is None or limits.rate < 0 or limits.burst < 0:
            return
        now = self._clock()
        tokens, since = self._buckets.get(slot, (limits.burst, now))
        tokens = min(limits.burst, tokens + max(0.0, now - since) * limits.rate)
        if tokens < 1:
            self._buckets[slot] = (tokens, now)
            raise GatewayError("THROTTLED")
        self._buckets[slot] = (tokens - 1, now)

    def _count(self, plan: Plan, key_id: str) -> None:
        if plan.quota is None:
            return
        slot, current = f"{plan.id}/{key_id}", _period(plan.period, self._clock())
        period, used = self._used.get(slot, (current, 0))
        used = used if period == current else 0
        if used >= plan.quota:
            raise GatewayError("QUOTA_EXCEEDED")
        self._used[slot] = (current, used + 1)


def _find_key(call: RequestContext, plans: Sequence[Plan]) -> tuple[Plan, Mapping[str, Any]]:
    by_authorizer = call.api.api_key_source == "AUTHORIZER"
    value = call.usage_identifier if by_authorizer else call.request.header("x-api-key")
    for plan in plans:
        key = plan.keys.get(value or "")
        # A patched key carries text where a created one carries a boolean.
        if key is not None and str(key.get("enabled", True)).lower() == "true":
            return plan, key
    raise GatewayError("INVALID_API_KEY", reason="no enabled API key of a usage plan that covers this stage")


def _period(kind: str, now: float) -> str:
    moment = time.gmtime(now)
    if kind == "MONTH":
        return time.strftime("%Y-%m", moment)
    if kind == "WEEK":
        return time.strftime("%Y-W%U", moment)
    return time.strftime("%Y-%m-%d", moment)
