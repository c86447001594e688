"""The cost cap: what the endpoint's machines may cost in a month, at full size and in the costliest phase.

What the second region's machines may cost is added to the first one's, and the second fleets of updates. An
estimate from a dated price table. Settings are held to the cap when they are read, with file and line; here
the templates are, whatever a construct made of the settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from contracts.routing import CHAMPION
from infra.policy.rules import PolicyFinding, PolicyRule
from infra.policy.template import Template, items, resources, variant_types
from infra.settings import Settings
from infra.settings.concurrency import challenger_most
from infra.settings.cost import of_endpoint
from infra.settings.endpoint import RealtimeEndpoint, ServerlessEndpoint
from infra.settings.prices import HOURS_PER_MONTH, SECONDS_PER_MONTH, hourly_prices, price_table

__all__ = ["cost_cap", "price_table"]


def cost_cap(settings: Settings, beside: float | None = 0.0) -> PolicyRule:
    """The rule that holds the endpoint of `settings` to the environment's monthly cap.

    `beside` is what the environment's other endpoints may cost; None where that is not known.
    """
    environment = settings.environment
    spec = settings.endpoint
    table, prices = price_table(), hourly_prices(settings)
    there = of_endpoint(settings.standby).most if settings.standby else 0.0
    elsewhere = None if there is None or beside is None else there + beside
    regions = [one for one in (settings, settings.standby) if one is not None]
    updates = sum(of_endpoint(one).updates or 0.0 for one in regions)
    most = 0 if isinstance(spec, ServerlessEndpoint) else spec.instances.max

    def check(template: Template) -> Iterator[PolicyFinding]:
        for logical_id, config in resources(template, "AWS::SageMaker::EndpointConfig"):
            production = items(config.get("ProductionVariants"))
            shadows = items(config.get("ShadowProductionVariants"))
            unknown = sorted({name for v in production + shadows for name in variant_types(v)} - set(prices))
            if elsewhere is None and settings.failover:
                unknown = sorted({*unknown, *settings.failover.instances.types} - set(prices))
            if unknown or elsewhere is None:
                yield PolicyFinding(
                    logical_id, "ProductionVariants", f"no price is known for {', '.join(unknown)}"
                )
                continue
            monthly = elsewhere + updates + max(_monthly(production), _monthly([*production[:1], *shadows]))
            if monthly > environment.monthly_cost_cap_usd:
                why = (
                    f"{monthly:,.0f} USD a month at full size (prices of {table.checked}) exceed the cap of "
                    f"{environment.monthly_cost_cap_usd:,.0f}"
                )
                yield PolicyFinding(logical_id, "ProductionVariants", why)

    def _monthly(variants: list[dict[str, Any]]) -> float:
        return sum(_of_variant(variant) for variant in variants)

    def _of_variant(variant: dict[str, Any]) -> float:
        if size := variant.get("ServerlessConfig"):
            memory = size["MemorySizeInMB"] / 1024
            return float(
                memory * size["MaxConcurrency"] * table.serverless_usd_per_gb_second * SECONDS_PER_MONTH
            )
        dearest = max(prices[name] for name in variant_types(variant))
        return dearest * _machines(variant) * HOURS_PER_MONTH

    def _machines(variant: dict[str, Any]) -> int:
        count = int(variant["InitialInstanceCount"])
        if variant["VariantName"] == CHAMPION:
            return max(count, most)
        grows = isinstance(spec, RealtimeEndpoint) and spec.scales
        return challenger_most(count, most) if grows else count

    return PolicyRule(
        "monthly-cost-cap",
        "The endpoint at full size, a challenger beside it, stays below the environment's monthly cap.",
        "Lower instances.max, choose a smaller type, add the type's price, or raise monthly_cost_cap_usd.",
        check,
    )


def costs_beside(settings: Settings, there: Settings) -> float | None:
    """What all endpoints of the environment but one may cost in a month; `there` are that one's settings."""
    others = [
        one for one in (settings, *settings.further_endpoints) if one.endpoint_name != there.endpoint_name
    ]
    known = [greatest for one in others if (greatest := of_endpoint(one).greatest) is not None]
    return sum(known) if len(known) == len(others) else None
