"""The cost cap: what the endpoint's machines may cost in a month, at full size and in the costliest phase.

An estimate from a dated price table. The second fleet of a running update is not counted: it lives minutes.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from contracts.routing import CHAMPION
from infra.policy.rules import Finding, Rule
from infra.policy.template import Template, items, resources
from infra.settings import Settings
from infra.settings.base import SettingsModel

TABLE = Path(__file__).parents[1] / "prices.yaml"
HOURS_PER_MONTH = 730


class PriceTable(SettingsModel):
    """US dollars per instance-hour and the day somebody looked."""

    checked: datetime.date
    usd_per_hour: dict[str, float]


@cache
def price_table() -> PriceTable:
    """The committed table."""
    return PriceTable.model_validate(yaml.safe_load(TABLE.read_text(encoding="utf-8")))


def cost_cap(settings: Settings) -> Rule:
    """The rule that holds the endpoint of `settings` to its monthly cap."""
    environment = settings.environment
    table = price_table()
    prices = table.usd_per_hour | environment.prices_usd_per_hour

    def check(template: Template) -> Iterator[Finding]:
        for logical_id, config in resources(template, "AWS::SageMaker::EndpointConfig"):
            production = items(config.get("ProductionVariants"))
            shadows = items(config.get("ShadowProductionVariants"))
            unknown = sorted({v["InstanceType"] for v in production + shadows} - set(prices))
            if unknown:
                yield Finding(logical_id, "ProductionVariants", f"no price is known for {', '.join(unknown)}")
                continue
            hourly = max(_hourly(production), _hourly([production[0], *shadows]))
            monthly = hourly * HOURS_PER_MONTH
            if monthly > environment.monthly_cost_cap_usd:
                why = (
                    f"{monthly:,.0f} USD a month at full size (prices of {table.checked}) exceed the cap of "
                    f"{environment.monthly_cost_cap_usd:,.0f}"
                )
                yield Finding(logical_id, "ProductionVariants", why)

    def _hourly(variants: list[dict[str, object]]) -> float:
        return sum(prices[str(variant["InstanceType"])] * _machines(variant) for variant in variants)

    def _machines(variant: dict[str, object]) -> int:
        count = int(str(variant["InitialInstanceCount"]))
        return max(count, settings.endpoint.instances.max) if variant["VariantName"] == CHAMPION else count

    return Rule(
        "monthly-cost-cap",
        "The endpoint at full size, a challenger beside it, stays below the environment's monthly cap.",
        "Lower instances.max, choose a smaller type, add the type's price, or raise monthly_cost_cap_usd.",
        check,
    )
