"""The ledger of budgets and usage, as rows of the records table (`contracts.usage`)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from contracts.access import Principal
from contracts.usage import Prices, model_sk, month_sk, usage_pk, usage_sk
from lambdas.aws.dynamodb import ConditionFailedError, Dynamo, from_item, to_attribute
from lambdas.aws.rate_limit import Rate

_KEPT_SECONDS = 400 * 86_400
"""Long enough to look back on a year."""
_ATTEMPTS = 8
"""Writes for one reservation while others move the same rate limit at the same moment."""


Limit = Literal["requests_per_second", "requests_per_day", "tokens_per_day", "usd_per_month"]


@dataclass(frozen=True)
class Spent:
    """What a key has spent, what is reserved for running requests included: today, and this month in dollars.

    `full_at` is the state of its rate limit (`rate`). `reserved_nano_usd` is what this request reserved.
    """

    requests: int
    tokens: int
    nano_usd: int = 0
    full_at: int = 0
    reserved_nano_usd: int = 0


@dataclass
class QuotaExceededError(Exception):
    """A reservation that does not fit into what is left of `limit`, the key's own or that for `model`."""

    spent: Spent
    limit: Limit = "tokens_per_day"
    model: str | None = None


class PriceUnknownError(Exception):
    """A budget in dollars, and tokens that have no price: nothing would ever be spent of it."""


@dataclass(frozen=True)
class Charge:
    """What a finished request adds to its day. `reserved` tokens were charged before; None: nothing was."""

    input_tokens: int
    output_tokens: int
    reserved: int | None
    reserved_nano_usd: int = 0
    counts: bool = True  # as one of the day's requests


@dataclass(frozen=True)
class Billed:
    """The model that a charge is for, and what its tokens cost."""

    model: str
    prices: Prices


@dataclass(frozen=True)
class _Row:
    """One row to write: whose, which, and what it is about."""

    caller: Principal
    sk: str
    day: str


class UsageLedger:
    """Each write is one atomic update of one row."""

    def __init__(self, table: str, tables: Dynamo) -> None:
        self._table = table
        self._tables = tables

    def reserve(
        self, caller: Principal, day: str, tokens: int, billed: Billed, now: float | None = None
    ) -> Spent:
        """See Ledger.reserve. Model and month are charged first, and given back where the day has no room."""
        at = int((time.time() if now is None else now) * 1e6)
        cost = _highest(billed.prices, tokens) if caller.usd_per_month is not None else None
        of_model = _for_model(caller, billed.model)
        if of_model is not None:
            self._reserve_model(of_model, day, tokens, billed.model, at)
        month: int | None = None
        try:
            if cost is not None:
                month = self._reserve_month(caller, day, cost)
            today = self._reserve_day(_day(caller, day), tokens, at)
        except QuotaExceededError:
            if month is not None and cost is not None:
                self._charge_month(caller, day, -cost)
            if of_model is not None:
                self._update(_model(of_model, day, billed.model), {"requests": -1, "charged": -tokens})
            raise
        if month is None:
            return today
        return Spent(today.requests, today.tokens, month, today.full_at, cost or 0)

    def settle(self, caller: Principal, day: str, charge: Charge, billed: Billed) -> None:
        """See Ledger.settle."""
        used = charge.input_tokens + charge.output_tokens
        cost = billed.prices.cost(charge.input_tokens, charge.output_tokens)
        of_model = _for_model(caller, billed.model)
        if of_model is not None:
            changes = {
                "requests": int(charge.counts) - (charge.reserved is not None),
                "charged": used - (charge.reserved or 0),
            }
            self._update(_model(of_model, day, billed.model), changes)
        additions = {
            "requests": int(charge.counts) - (charge.reserved is not None),
            "charged": used - (charge.reserved or 0),
            "input_tokens": charge.input_tokens,
            "output_tokens": charge.output_tokens,
            **({"unpriced_tokens": used} if cost is None else {"cost_nano_usd": cost}),
        }
        self._update(_day(caller, day), additions)
        if caller.usd_per_month is not None:
            self._charge_month(caller, day, (cost or 0) - charge.reserved_nano_usd)

    def _reserve_model(self, caller: Principal, day: str, tokens: int, model: str, now: int) -> None:
        """Raises QuotaExceededError that names the model."""
        try:
            self._reserve_day(_model(caller, day, model), tokens, now)
        except QuotaExceededError as exceeded:
            exceeded.model = model
            raise

    def _reserve_month(self, caller: Principal, day: str, cost: int) -> int:
        """What the month has been charged with then, in billionths of a dollar. Raises QuotaExceededError."""
        room = math.floor((caller.usd_per_month or 0) * 1e9) - cost
        if room < 0:
            raise QuotaExceededError(Spent(0, 0), "usd_per_month")
        try:
            row = self._charge_month(
                caller,
                day,
                cost,
                values={":room": room},
                ConditionExpression="attribute_not_exists(charged_nano_usd) OR charged_nano_usd <= :room",
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailedError as refused:
            spent = Spent(0, 0, int(refused.item.get("charged_nano_usd", 0)))
            raise QuotaExceededError(spent, "usd_per_month") from None
        return int(row["charged_nano_usd"])

    def _charge_month(self, caller: Principal, day: str, cost: int, **options: Any) -> dict[str, Any]:
        return self._update(
            _Row(caller, month_sk(day, caller.key_id), day), {"charged_nano_usd": cost}, **options
        )

    def _reserve_day(self, of: _Row, tokens: int, now: int) -> Spent:
        """One write where the rate limit is at rest, two where it is in use. Raises QuotaExceededError."""
        caller = of.caller
        rate = Rate.of(caller.requests_per_second, caller.burst) if caller.requests_per_second else None
        row = {"requests": 0, "charged": 0, "full_at": 0}
        at_rest = True
        for _ in range(_ATTEMPTS):
            try:
                return _spent(self._try_day(of, tokens, now, rate, at_rest=at_rest))
            except ConditionFailedError as refused:
                row |= refused.item
            if limit := _met(caller, tokens, row):
                raise QuotaExceededError(_spent(row), limit)
            if rate is not None and row["full_at"] - rate.tolerance > now:
                break
            at_rest = row["full_at"] <= now
        raise QuotaExceededError(_spent(row), "requests_per_second")

    def _try_day(
        self, of: _Row, tokens: int, now: int, rate: Rate | None, *, at_rest: bool
    ) -> dict[str, Any]:
        """Raises ConditionFailedError, with the row as it is."""
        caller = of.caller
        if limit := _met(caller, tokens, {"requests": 0, "charged": 0}):
            raise QuotaExceededError(Spent(0, 0), limit)
        conditions: list[str] = []
        values: dict[str, int] = {}
        additions, changes = {"requests": 1, "charged": tokens}, ""
        if caller.tokens_per_day is not None:
            conditions.append("(attribute_not_exists(charged) OR charged <= :room)")
            values[":room"] = caller.tokens_per_day - tokens
        if caller.requests_per_day is not None:
            conditions.append("(attribute_not_exists(requests) OR requests < :requests)")
            values[":requests"] = caller.requests_per_day
        if rate is not None and at_rest:
            conditions.append("(attribute_not_exists(full_at) OR full_at <= :now)")
            changes = ", full_at = :full_at"
            values |= {":now": now, ":full_at": now + rate.interval}
        elif rate is not None:
            conditions.append("full_at > :now AND full_at <= :latest")
            additions["full_at"] = rate.interval
            values |= {":now": now, ":latest": now + rate.tolerance}
        checks: dict[str, Any] = {}
        if conditions:
            checks = {
                "ConditionExpression": " AND ".join(conditions),
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        return self._update(
            of,
            additions,
            changes,
            values,
            ReturnValues="ALL_NEW",
            **checks,
        )

    def _update(
        self,
        row: _Row,
        additions: dict[str, int],
        changes: str = "",
        values: dict[str, int] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        all_values: dict[str, Any] = {
            **{f":add_{name}": value for name, value in additions.items()},
            **(values or {}),
            ":key_name": row.caller.key_name,
            ":day": row.day,
            ":expires_at": int(time.time()) + _KEPT_SECONDS,
        }
        added = ", ".join(f"{name} :add_{name}" for name in additions)
        reply = self._tables.call(
            "UpdateItem",
            TableName=self._table,
            Key={"pk": {"S": usage_pk(row.caller.tenant)}, "sk": {"S": row.sk}},
            UpdateExpression=(
                f"ADD {added} SET key_name = :key_name, #day = :day, expires_at = :expires_at{changes}"
            ),
            ExpressionAttributeNames={"#day": "day"},
            ExpressionAttributeValues={name: to_attribute(value) for name, value in all_values.items()},
            **options,
        )
        return from_item(reply.get("Attributes", {}))


def _day(caller: Principal, day: str) -> _Row:
    return _Row(caller, usage_sk(day, caller.key_id), day)


def _model(caller: Principal, day: str, model: str) -> _Row:
    return _Row(caller, model_sk(day, caller.key_id, model), day)


def _highest(prices: Prices, tokens: int) -> int:
    """What tokens may cost: which will be the dearer ones is not known yet. Raises PriceUnknownError."""
    costs = prices.cost(tokens, 0), prices.cost(0, tokens)
    if costs[0] is None or costs[1] is None:
        raise PriceUnknownError
    return max(costs[0], costs[1])


def _for_model(caller: Principal, model: str) -> Principal | None:
    """The caller with its limits for one model alone; None where it has none."""
    budget = caller.model_budgets.get(model)
    if budget is None:
        return None
    return replace(
        caller,
        requests_per_second=None,
        requests_per_day=budget.requests_per_day,
        tokens_per_day=budget.tokens_per_day,
        usd_per_month=None,
    )


def _met(caller: Principal, tokens: int, row: dict[str, Any]) -> Limit | None:
    """The limit of the day for which one more request is too many."""
    if caller.tokens_per_day is not None and row["charged"] + tokens > caller.tokens_per_day:
        return "tokens_per_day"
    if caller.requests_per_day is not None and row["requests"] >= caller.requests_per_day:
        return "requests_per_day"
    return None


def _spent(row: dict[str, Any]) -> Spent:
    return Spent(int(row.get("requests", 0)), int(row.get("charged", 0)), full_at=int(row.get("full_at", 0)))


class UsageHistory:
    """A tenant's usage rows, which share the records table."""

    def __init__(self, table: str, tables: Dynamo) -> None:
        self._table = table
        self._tables = tables

    def days(self, tenant: str, start: str, end: str) -> Iterator[dict[str, Any]]:
        """Rows from `start` to `end`, both included, in order of day; page by page."""
        first: dict[str, Any] = {}
        while True:
            reply = self._tables.call(
                "Query",
                TableName=self._table,
                KeyConditionExpression="pk = :pk AND sk BETWEEN :start AND :end",
                ExpressionAttributeValues={
                    ":pk": {"S": usage_pk(tenant)},
                    ":start": {"S": usage_sk(start)},
                    # Key ids are hexadecimal: this sorts behind all of them.
                    ":end": {"S": usage_sk(end, "~")},
                },
                **first,
            )
            for item in reply.get("Items", []):
                yield from_item(item)
            if "LastEvaluatedKey" not in reply:
                return
            first = {"ExclusiveStartKey": reply["LastEvaluatedKey"]}
