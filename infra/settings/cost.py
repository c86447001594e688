"""What an environment's endpoints may cost in a month, from its settings: printed at synth.

Of alternative instance types the most expensive is counted; further models' endpoints and the second region's
are added. An update runs a
second fleet beside the first: it is counted for as long as an update may take, for four releases a month.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from infra.settings.base import RuleError
from infra.settings.concurrency import challenger_most
from infra.settings.endpoint import RealtimeEndpoint, ServerlessEndpoint
from infra.settings.environment_settings import Settings
from infra.settings.machines import IdleInstances, Instances
from infra.settings.prices import HOURS_PER_MONTH, SECONDS_PER_MONTH, hourly_prices, price_table

_MB_PER_GB = 1024
_UPDATES_PER_MONTH = 16
"""Four releases, and in each the challenger's start, its canary's end, the promotion and the retirement."""


@dataclass(frozen=True)
class Estimate:
    """US dollars a month: with as little as settings allow, at full size, and with a challenger beside that.

    `updates` is what the second fleets of updates add. None where a price is not known.
    """

    what: str
    least: float | None
    most: float | None
    with_challenger: float | None
    updates: float | None
    cap: float

    @property
    def greatest(self) -> float | None:
        """The costliest month: everything at full size, and updates."""
        return _sum(self.most if self.with_challenger is None else self.with_challenger, self.updates)

    def sentence(self) -> str:
        """One line for a person."""
        if self.least is None or self.most is None:
            return f"{self.what}: no price is known; name one in environment.prices_usd_per_hour."
        text = f"{self.what}: {self.least:,.0f} USD a month at least, {self.most:,.0f} at full size"
        if self.with_challenger is not None:
            text += f", {self.with_challenger:,.0f} with a challenger"
        if self.updates:
            text += f", and {self.updates:,.0f} for {_UPDATES_PER_MONTH} updates, which double the fleet"
        return f"{text} (prices of {price_table().checked}; cap {self.cap:,.0f})."


def estimate(settings: Settings) -> Estimate:
    """The estimate for one environment: all its endpoints, in all its regions."""
    total = of_endpoint(settings)
    for further in settings.further_endpoints:
        total = _together(total, of_endpoint(further), f" for {further.model.name}")
    if settings.standby is None:
        return total
    return _together(total, of_endpoint(settings.standby), f" in {settings.standby.environment.region}")


def _together(total: Estimate, other: Estimate, where: str) -> Estimate:
    """Both; only the first has a challenger."""
    return Estimate(
        f"{total.what}, and {other.what}{where}",
        _sum(total.least, other.least),
        _sum(total.most, other.most),
        _sum(total.with_challenger, other.most),
        _sum(total.updates, other.updates),
        total.cap,
    )


def check_cost(settings: Settings) -> None:
    """The endpoint at full size stays below the monthly cap. Raises RuleError from the file's root."""
    missing = sorted(set(_types(settings)) - set(hourly_prices(settings)))
    if missing:
        raise RuleError(
            "environment",
            "prices_usd_per_hour",
            what=f"No price is known for {', '.join(missing)}.",
            why="The monthly cap could not be held.",
            change="the prices from AWS's price list, in US dollars per hour",
            example=dict.fromkeys(missing, 1.5),
        )
    found, cap = estimate(settings), settings.environment.monthly_cost_cap_usd
    monthly = found.greatest
    if monthly is not None and monthly > cap:
        raise RuleError(
            "environment",
            "monthly_cost_cap_usd",
            what=f"{found.what} can cost {monthly:,.0f} USD a month, above the cap of {cap:,.0f} "
            f"(prices of {price_table().checked}).",
            why="The cap is what nobody has to ask about.",
            change=f"a cap of {math.ceil(monthly):d} or more, fewer instances.max, or a smaller type",
            example=float(math.ceil(monthly)),
        )


def _types(settings: Settings) -> list[str]:
    """Every instance type of the endpoints; none for serverless ones."""
    regions = [one for one in (settings, settings.standby) if one is not None]
    kinds = [one.endpoint for one in (*regions, *settings.further_endpoints)]
    return [
        name for kind in kinds if not isinstance(kind, ServerlessEndpoint) for name in kind.instances.types
    ]


def of_endpoint(settings: Settings) -> Estimate:
    """The estimate for one endpoint in its region."""
    spec, cap = settings.endpoint, settings.environment.monthly_cost_cap_usd
    if isinstance(spec, ServerlessEndpoint):
        per_request = (
            spec.memory_mb / _MB_PER_GB * price_table().serverless_usd_per_gb_second * SECONDS_PER_MONTH
        )
        ready = spec.provisioned_concurrency or 0
        what = f"serverless, {spec.memory_mb} MB × {spec.max_concurrency}"
        return Estimate(what, ready * per_request, spec.max_concurrency * per_request, None, 0.0, cap)
    machines = spec.instances
    price = _dearest(settings, machines)
    what = f"{machines.min} to {machines.max} × {' or '.join(machines.types)}"
    beside, count = None, machines.max
    if isinstance(spec, RealtimeEndpoint):
        count += challenger_most(machines.min, machines.max) if spec.scales else machines.min
        beside = _monthly(price, count)
    hours = _UPDATES_PER_MONTH * settings.update_seconds / 3600
    updates = None if price is None else price * hours * (count if settings.refresh else machines.max)
    return Estimate(what, _monthly(price, machines.min), _monthly(price, machines.max), beside, updates, cap)


def _dearest(settings: Settings, machines: Instances | IdleInstances) -> float | None:
    prices = hourly_prices(settings)
    known = [prices[name] for name in machines.types if name in prices]
    return max(known) if len(known) == len(machines.types) else None


def _sum(here: float | None, there: float | None) -> float | None:
    return None if here is None or there is None else here + there


def _monthly(hourly: float | None, count: int) -> float | None:
    return None if hourly is None else hourly * count * HOURS_PER_MONTH
