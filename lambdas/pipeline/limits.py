"""A key's limits in words and headers: what is left, which limit was met, when it gives way again. Pure."""

from __future__ import annotations

import calendar
import math
import time
from dataclasses import replace

from contracts.access import Principal
from lambdas.aws.rate_limit import Rate
from lambdas.aws.usage_ledger import Limit, QuotaExceededError, Spent
from lambdas.runtime.errors import ApiError

_DAY_SECONDS = 86_400


def rate_limit_headers(
    caller: Principal, spent: Spent, now: float, met: Limit | None = None
) -> dict[str, str]:
    """The `x-ratelimit-…` headers, as OpenAI names them.

    Of two limits on requests the one that was met is shown, else that of the day.
    """
    day, month = f"{_until_midnight(now)}s", f"{_until_next_month(now)}s"
    headers: dict[str, str] = {}
    if caller.requests_per_second is not None and (
        met == "requests_per_second" or caller.requests_per_day is None
    ):
        rate = Rate.of(caller.requests_per_second, caller.burst)
        left, wait = rate.remaining(spent.full_at, _micro(now)), rate.wait(spent.full_at, _micro(now))
        headers |= _three("requests", str(rate.burst), str(left), f"{wait:.3f}s")
    elif caller.requests_per_day is not None:
        left = max(0, caller.requests_per_day - spent.requests)
        headers |= _three("requests", str(caller.requests_per_day), str(left), day)
    if caller.tokens_per_day is not None:
        left = max(0, caller.tokens_per_day - spent.tokens)
        headers |= _three("tokens", str(caller.tokens_per_day), str(left), day)
    if caller.usd_per_month is not None:
        rest = max(0.0, caller.usd_per_month - spent.nano_usd / 1e9)
        headers |= _three("usd", f"{caller.usd_per_month:.6f}", f"{rest:.6f}", month)
    return headers


def refusal(caller: Principal, exhausted: QuotaExceededError, tokens: int, now: float) -> ApiError:
    """The 429 that names the limit and when it gives way."""
    spent, limit = exhausted.spent, exhausted.limit
    if exhausted.model is not None:
        budget = caller.model_budgets[exhausted.model]
        caller = replace(
            caller, requests_per_day=budget.requests_per_day, tokens_per_day=budget.tokens_per_day
        )
    reset = float(_until_midnight(now))
    when = f"The limit resets in {reset:.0f} s, at midnight UTC."
    if limit == "requests_per_second":
        assert caller.requests_per_second is not None
        rate = Rate.of(caller.requests_per_second, caller.burst)
        reset = rate.wait(spent.full_at, _micro(now))
        what = f"{caller.requests_per_second:g} requests per second, {rate.burst} at one moment"
        when = f"One more fits in {reset:.3f} s."
    elif limit == "requests_per_day":
        what = f"{caller.requests_per_day} requests per day"
    elif limit == "usd_per_month":
        reset = float(_until_next_month(now))
        what = f"{caller.usd_per_month:g} US dollars per month; {spent.nano_usd / 1e9:.4f} are spent"
        when = f"The limit resets in {reset:.0f} s, on the first of the month, UTC."
    else:
        what = f"{caller.tokens_per_day} tokens per day; {spent.tokens} are spent"
        what += f" and this request needs about {tokens}"
    of_model = "" if exhausted.model is None else f", of the model '{exhausted.model}'"
    return ApiError(
        "rate_limit_error",
        f"This key may use {what}{of_model}. {when}",
        code=f"{limit}_exceeded",
        retry_after=max(1, math.ceil(reset)),
    )


def _three(name: str, limit: str, remaining: str, reset: str) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{name}": limit,
        f"x-ratelimit-remaining-{name}": remaining,
        f"x-ratelimit-reset-{name}": reset,
    }


def _micro(now: float) -> int:
    return int(now * 1e6)


def _until_midnight(now: float) -> int:
    return _DAY_SECONDS - int(now) % _DAY_SECONDS


def _until_next_month(now: float) -> int:
    moment = time.gmtime(now)
    year, month = (moment.tm_year + 1, 1) if moment.tm_mon == 12 else (moment.tm_year, moment.tm_mon + 1)
    return calendar.timegm((year, month, 1, 0, 0, 0)) - int(now)
