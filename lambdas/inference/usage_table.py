"""The ledger of budgets and usage, as rows of the records table (`contracts.usage`)."""

from __future__ import annotations

import time
from typing import Any

from contracts.usage import usage_pk, usage_sk
from lambdas.common.dynamo import ConditionFailed, Dynamo, from_item, to_attribute
from lambdas.inference.exchange import Caller
from lambdas.inference.prices import Prices
from lambdas.inference.stages.budget import Charge, Exhausted, Spent

_KEPT_SECONDS = 400 * 86_400
"""Long enough to look back on a year."""


class UsageTable:
    """Each write is one atomic update of one row."""

    def __init__(self, table: str, prices: Prices, tables: Dynamo) -> None:
        self._table = table
        self._prices = prices
        self._tables = tables

    def reserve(self, caller: Caller, day: str, tokens: int) -> Spent:
        """See Ledger.reserve."""
        conditions: list[str] = []
        limits: dict[str, int] = {}
        if caller.tokens_per_day is not None:
            if tokens > caller.tokens_per_day:
                raise Exhausted(Spent(0, 0))
            conditions.append("(attribute_not_exists(charged) OR charged <= :room)")
            limits[":room"] = caller.tokens_per_day - tokens
        if caller.requests_per_day is not None:
            if caller.requests_per_day < 1:
                raise Exhausted(Spent(0, 0))
            conditions.append("(attribute_not_exists(requests) OR requests < :requests)")
            limits[":requests"] = caller.requests_per_day
        try:
            row = self._update(
                caller,
                day,
                {"requests": 1, "charged": tokens},
                limits,
                ConditionExpression=" AND ".join(conditions),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionFailed as refusal:
            raise Exhausted(_spent(refusal.item)) from None
        return _spent(row)

    def settle(self, caller: Caller, day: str, charge: Charge) -> None:
        """See Ledger.settle."""
        used = charge.input_tokens + charge.output_tokens
        additions = {
            "requests": 1 if charge.reserved is None else 0,
            "charged": used - (charge.reserved or 0),
            "input_tokens": charge.input_tokens,
            "output_tokens": charge.output_tokens,
            "cost_nano_usd": self._prices.cost(charge.input_tokens, charge.output_tokens),
        }
        self._update(caller, day, additions, {})

    def _update(
        self, caller: Caller, day: str, additions: dict[str, int], limits: dict[str, int], **options: Any
    ) -> dict[str, Any]:
        values: dict[str, Any] = {
            **{f":add_{name}": value for name, value in additions.items()},
            **limits,
            ":key_name": caller.key_name,
            ":day": day,
            ":expires_at": int(time.time()) + _KEPT_SECONDS,
        }
        added = ", ".join(f"{name} :add_{name}" for name in additions)
        reply = self._tables.call(
            "UpdateItem",
            TableName=self._table,
            Key={"pk": {"S": usage_pk(caller.tenant)}, "sk": {"S": usage_sk(day, caller.key_id)}},
            UpdateExpression=f"ADD {added} SET key_name = :key_name, #day = :day, expires_at = :expires_at",
            ExpressionAttributeNames={"#day": "day"},
            ExpressionAttributeValues={name: to_attribute(value) for name, value in values.items()},
            **options,
        )
        return from_item(reply.get("Attributes", {}))


def _spent(row: dict[str, Any]) -> Spent:
    return Spent(int(row.get("requests", 0)), int(row.get("charged", 0)))
