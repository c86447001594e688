"""What things cost by the hour or the month: infra/prices.yaml for instances, a dated table for what is kept.

Estimates for an operator, not a bill: regions, contracts and public sources differ.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from infra.settings import Settings

TABLE = Path(__file__).resolve().parent.parent / "infra" / "prices.yaml"
HOURS_PER_MONTH = 730

KEPT_CHECKED = "2026-11-30"
"""The day on which the prices below were looked up (public price lists, us-east-1, US dollars)."""
KMS_KEY_USD_PER_MONTH = 1.0
S3_USD_PER_GB_MONTH = 0.023
LOGS_USD_PER_GB_MONTH = 0.03
DYNAMODB_USD_PER_GB_MONTH = 0.25
DYNAMODB_RECOVERY_USD_PER_GB_MONTH = 0.20
BYTES_PER_GB = 1e9


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return found


def instance_usd_per_hour(settings: Settings, instance_type: str) -> float | None:
    """One instance, the environment's own price before the table's; None where neither knows one."""
    prices = _table()["usd_per_hour"] | settings.environment.prices_usd_per_hour
    price = prices.get(instance_type)
    return None if price is None else float(price)


def gigabytes(size: float) -> float:
    """Bytes as the gigabytes that are billed."""
    return size / BYTES_PER_GB
