"""The access table as functions read it, and what the functions behind the door learn of a caller."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from contracts.access import AccessKey
from lambdas.aws.dynamodb import Dynamo, from_item


class AccessSource(Protocol):
    """Where callers are kept."""

    def find(self, pk: str) -> AccessKey | None:
        """The caller under that key of the table, None where there is none."""


class AccessTable:
    """The access table."""

    def __init__(self, table: str, tables: Dynamo) -> None:
        self._table = table
        self._tables = tables

    def find(self, pk: str) -> AccessKey | None:
        """Read consistently, so that a revocation counts from the moment it is written."""
        reply = self._tables.call(
            "GetItem", TableName=self._table, Key={"pk": {"S": pk}}, ConsistentRead=True
        )
        return AccessKey.model_validate(from_item(reply["Item"])) if "Item" in reply else None


def context_of(key: AccessKey, scopes: Iterable[str] | None = None) -> dict[str, str]:
    """A caller as API Gateway's authorizer context has it: strings only. `scopes` narrows its own."""
    limits: dict[str, Any] = {
        "requests_per_second": key.requests_per_second,
        "burst": key.burst,
        "requests_per_day": key.requests_per_day,
        "tokens_per_day": key.tokens_per_day,
        "usd_per_month": key.usd_per_month,
    }
    granted = key.scopes if scopes is None else [scope for scope in key.scopes if scope in set(scopes)]
    return {
        "tenant": key.tenant,
        "key_name": key.name,
        "key_id": key.id,
        "scopes": " ".join(granted),
        **({} if key.keep_text else {"keep_text": "false"}),
        **{name: str(limit) for name, limit in limits.items() if limit is not None},
    }
