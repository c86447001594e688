"""What a token of a model on our own machines costs: the hours of its instances over what came of them.

    paid       = USD per instance-hour × instances × hours ÷ tokens × 1,000,000     [USD per million tokens]
    when full  = paid × busy share
    busy share = mean requests in flight per instance ÷ the engine's `max_running_requests`, 1 at most

Tokens are those of prompts and answers together, as the functions count them. `paid` has the idle hours in
it, which is what the bill says; `when full` is what the same tokens would cost on machines that are never
idle: the least that a price could cover. Instances are those of now, for the hours that the endpoint exists,
24 at most: a fleet that has scaled in between differs by as much. What is not known is None, with the reason,
and never 0. Sources of the numbers: infra/prices.yaml or `environment.prices_usd_per_hour`; the metrics of
`contracts/metrics.py`; `ConcurrentRequestsPerModel` of AWS/SageMaker.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from contracts import metrics
from contracts.routing import CHAMPION
from infra.settings.endpoint import ServerlessEndpoint
from operations.prices import instance_usd_per_hour
from operations.target import Target

WINDOW = timedelta(hours=24)
_SHORTEST = timedelta(minutes=1)  # two clocks may differ
_PERIOD_SECONDS = 3600
_OURS = {"input": metrics.INPUT_TOKENS, "output": metrics.OUTPUT_TOKENS, "requests": metrics.REQUESTS}


class TokenCost(BaseModel):
    """Measured cost, and what it is made of. Prices in US dollars; `reason` says why one is None."""

    hours: float
    instances: int
    usd_per_instance_hour: float | None = None
    tokens: int = 0
    requests: int = 0
    busy_share: float | None = None
    usd_per_million_tokens: float | None = None
    usd_per_million_tokens_when_full: float | None = None
    usd_per_thousand_requests: float | None = None
    reason: str = ""


def token_cost(
    *,
    usd_per_instance_hour: float | None,
    instances: int,
    hours: float,
    tokens: int,
    requests: int,
    busy_share: float | None,
) -> TokenCost:
    """The cost by the formulas above.

    Args:
        usd_per_instance_hour: Price of one instance; None where nobody knows it.
        instances: Instances that ran.
        hours: For how long.
        tokens: Tokens of prompts and answers in that time.
        requests: Requests in that time.
        busy_share: From 0 to 1; None where it was not measured.
    """
    cost = TokenCost(
        hours=round(hours, 2),
        instances=instances,
        usd_per_instance_hour=usd_per_instance_hour,
        tokens=tokens,
        requests=requests,
        busy_share=busy_share,
    )
    if usd_per_instance_hour is None:
        return cost.model_copy(update={"reason": "the instance's price is not known"})
    if not instances:
        return cost.model_copy(update={"reason": "no instance runs"})
    paid = usd_per_instance_hour * instances * hours
    found: dict[str, Any] = {}
    if requests:
        found["usd_per_thousand_requests"] = paid / requests * 1_000
    if not tokens:
        return cost.model_copy(update=found | {"reason": "no token was counted"})
    found["usd_per_million_tokens"] = paid / tokens * 1_000_000
    if busy_share:
        found["usd_per_million_tokens_when_full"] = found["usd_per_million_tokens"] * busy_share
    else:
        found["reason"] = "how busy the instances are was not measured"
    return cost.model_copy(update=found)


def read_token_cost(target: Target, instances: int, created_at: datetime) -> TokenCost:
    """The cost of the endpoint in the first region, of the last hours.

    Raises what the client raises.
    """
    now = datetime.now(UTC)
    begin = min(max(now - WINDOW, created_at), now - _SHORTEST)
    found = _measured(target, begin, now)
    return token_cost(
        usd_per_instance_hour=_usd_per_hour(target),
        instances=instances,
        hours=(now - begin).total_seconds() / 3600,
        tokens=int(found["input"] + found["output"]),
        requests=int(found["requests"]),
        busy_share=_busy_share(target, found.get("in_flight")),
    )


def _usd_per_hour(target: Target) -> float | None:
    """Of several possible types the dearest, as everywhere; serverless endpoints have no instance."""
    spec = target.settings.endpoint
    if isinstance(spec, ServerlessEndpoint):
        return None
    prices = [instance_usd_per_hour(target.settings, name) for name in spec.instances.types]
    known = [price for price in prices if price is not None]
    return max(known) if known and len(known) == len(prices) else None


def _busy_share(target: Target, in_flight: float | None) -> float | None:
    return (
        None
        if in_flight is None
        else min(1.0, in_flight / target.settings.endpoint.engine.max_running_requests)
    )


def _measured(target: Target, begin: datetime, end: datetime) -> dict[str, float]:
    """Sums of our metrics (0 without any), and the mean of requests in flight where it was measured."""
    name = target.settings.endpoint_name
    queries = [
        _query(what, metrics.NAMESPACE, metric, {metrics.DIM_ENDPOINT: name}, "Sum")
        for what, metric in _OURS.items()
    ]
    of_variant = dict(zip(metrics.SAGEMAKER_DIMENSIONS, (name, CHAMPION), strict=True))
    queries.append(
        _query("in_flight", metrics.SAGEMAKER_NAMESPACE, "ConcurrentRequestsPerModel", of_variant, "Average")
    )
    pages = (
        target.client("cloudwatch")
        .get_paginator("get_metric_data")
        .paginate(MetricDataQueries=queries, StartTime=begin, EndTime=end)
    )
    values: dict[str, list[float]] = {what: [] for what in (*_OURS, "in_flight")}
    for page in pages:
        for result in page["MetricDataResults"]:
            values[result["Id"]] += result["Values"]
    in_flight = values.pop("in_flight")
    sums = {what: sum(each) for what, each in values.items()}
    return sums | ({"in_flight": sum(in_flight) / len(in_flight)} if in_flight else {})


def _query(
    id: str, namespace: str, metric: str, dimensions: Mapping[str, str], statistic: str
) -> dict[str, Any]:
    named = [{"Name": key, "Value": value} for key, value in dimensions.items()]
    return {
        "Id": id,
        "MetricStat": {
            "Metric": {"Namespace": namespace, "MetricName": metric, "Dimensions": named},
            "Period": _PERIOD_SECONDS,
            "Stat": statistic,
        },
    }
