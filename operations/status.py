"""Shows what is deployed, what serves, and what is under way: one screen.

    python -m operations status --env prod
    python -m operations status --env prod --json

Changes nothing. What looks wrong is marked with `!`; `why` says what is behind it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from operations.environment_status import EndpointStatus, EnvironmentStatus, read_status
from operations.target import open_target, run

_CUT = 100


def screen(status: EnvironmentStatus) -> str:
    """The screen: at most some thirty lines."""
    lines = [f"{status.env}  account {status.account}  {', '.join(status.regions)}", ""]
    if not status.stacks:
        lines.append(f"Nothing is deployed. Next: make deploy ENV={status.env}")
        return "\n".join([*lines, *_unread(status)])
    lines += _stacks(status)
    for endpoint in status.endpoints:
        lines += ["", *_endpoint(endpoint)]
    lines += ["", *_release(status)]
    lines.append(f"alarms      {_alarms(status)}")
    now = "unknown" if status.usd_per_month_now is None else f"{status.usd_per_month_now:,.0f} USD"
    over = status.usd_per_month_now is not None and status.usd_per_month_now > status.usd_per_month_cap
    mark = "! " if over else ""
    lines.append(f"cost        {mark}{now} a month as it runs now; cap {status.usd_per_month_cap:,.0f} USD")
    lines += _token_prices(status)
    if status.keys is not None:
        lines.append(f"keys        {status.keys} that are not revoked")
    return "\n".join([*lines, *_unread(status)])


def _stacks(status: EnvironmentStatus) -> list[str]:
    lines = []
    for stack in status.stacks:
        bad = "ROLLBACK" in stack.status or stack.status.endswith("_FAILED")
        at = f"{stack.updated_at:%Y-%m-%d %H:%M}" if stack.updated_at else ""
        region = f"  {stack.region}" if len(status.regions) > 1 else ""
        lines.append(f"stack       {stack.name:<34} {'! ' if bad else ''}{stack.status:<24} {at}{region}")
    return lines


def _endpoint(endpoint: EndpointStatus) -> list[str]:
    bad = endpoint.status in ("Failed", "OutOfService", "UpdateRollbackFailed") or endpoint.failure
    lines = [f"endpoint    {endpoint.name} ({endpoint.region})  {'! ' if bad else ''}{endpoint.status}"]
    if endpoint.failure:
        lines.append(f"            {_cut(endpoint.failure)}")
    mark = ""
    if endpoint.config_is_the_stacks is False and endpoint.status == "InService":
        mark = "  ! not its stack's: an update was rolled back"
    lines.append(f"            config {endpoint.config}{mark}")
    for variant in endpoint.variants:
        count = f"{variant.instances}/{variant.desired_instances} instances"
        version = variant.model_version or "unknown version"
        lines.append(f"            {variant.name:<10} {version}  weight {variant.weight:g}  {count}")
        if variant.image:
            lines.append(f"            {'':<10} {variant.image}")
    return lines


def _release(status: EnvironmentStatus) -> list[str]:
    lines = []
    if status.release:
        running = status.release
        lines.append(
            f"release     {running.id} holds the lock since {running.since:%Y-%m-%d %H:%M} UTC; phase "
            f"{running.phase}; {running.step}"
        )
    else:
        lines.append("release     none under way")
    if status.last_release:
        last = status.last_release
        mark = "! " if last.outcome == "failed" else ""
        lines.append(f"last        {last.id}: {mark}{last.outcome}. {_cut(last.reason)}".rstrip())
    return lines


def _alarms(status: EnvironmentStatus) -> str:
    if not status.alarms:
        return "none in ALARM"
    return "; ".join(f"! {alarm.name}" for alarm in status.alarms)


def _token_prices(status: EnvironmentStatus) -> list[str]:
    """What callers are charged beside what a token has cost; what is not known says so."""
    prices = status.set_token_prices
    charged = (
        "none set: requests have no cost, and budgets in dollars are refused"
        if prices is None
        else f"{prices[0]:g} USD per million tokens in, {prices[1]:g} out"
    )
    lines = [f"price set   {charged}"]
    cost = status.token_cost
    if cost is None:
        return lines
    goal, thousand = status.usd_per_thousand_requests_goal, cost.usd_per_thousand_requests
    if thousand is not None and goal is not None:
        mark = "! " if thousand > goal else ""
        lines.append(f"requests    {mark}{thousand:,.2f} USD per thousand, as measured; goal {goal:g}")
    if cost.usd_per_million_tokens is None:
        return [*lines, f"measured    unknown: {cost.reason}"]
    full = cost.usd_per_million_tokens_when_full
    busy = cost.reason if full is None else f"{full:,.2f} when full; {cost.busy_share or 0:.0%} busy"
    made_of = (
        f"{cost.instances} × {cost.usd_per_instance_hour:g} USD/h × {cost.hours:g} h, {cost.tokens:,} tokens"
    )
    lines.append(f"measured    {cost.usd_per_million_tokens:,.2f} USD per million tokens ({made_of}); {busy}")
    return lines


def _unread(status: EnvironmentStatus) -> list[str]:
    return [f"not read    {entry}" for entry in status.unread]


def _cut(text: str) -> str:
    return text if len(text) <= _CUT else f"{text[: _CUT - 1]}…"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m operations status", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--env", required=True, help="name of the settings file")
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    options = parser.parse_args(arguments)

    def work() -> int:
        status = read_status(open_target(options.env))
        print(status.model_dump_json(indent=2) if options.json else screen(status))
        return 0

    return run(work)
