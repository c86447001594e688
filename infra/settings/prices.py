"""What machines cost: a dated table, overridden by the environment's own prices. Data only, no rule."""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path

import yaml

from infra.settings.base import SettingsModel
from infra.settings.environment_settings import Settings

TABLE = Path(__file__).parents[1] / "prices.yaml"
HOURS_PER_MONTH = 730
SECONDS_PER_MONTH = HOURS_PER_MONTH * 3600


class PriceTable(SettingsModel):
    """US dollars per instance-hour and per serverless GB-second, and the day somebody looked."""

    checked: datetime.date
    usd_per_hour: dict[str, float]
    serverless_usd_per_gb_second: float


@cache
def price_table() -> PriceTable:
    """The committed table."""
    return PriceTable.model_validate(yaml.safe_load(TABLE.read_text(encoding="utf-8")))


def hourly_prices(settings: Settings) -> dict[str, float]:
    """US dollars per instance-hour by type, the environment's own prices before the table's."""
    return price_table().usd_per_hour | settings.environment.prices_usd_per_hour
