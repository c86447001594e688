"""The access table: callers, and the routing item of each endpoint."""

from __future__ import annotations

from typing import Protocol

from contracts.access import AccessKey, routing_pk
from contracts.routing import Routing
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


class RoutingTable:
    """The routing item of an endpoint: the fields of `contracts.routing.Routing` as attributes."""

    def __init__(self, table: str, endpoint_name: str, tables: Dynamo) -> None:
        self._table = table
        self._key = {"pk": {"S": routing_pk(endpoint_name)}}
        self._tables = tables

    def read(self) -> Routing | None:
        """The item as it is now; None where there is none."""
        item = self._tables.call("GetItem", TableName=self._table, Key=self._key).get("Item")
        if item is None:
            return None
        fields = from_item(item)
        return Routing.model_validate({name: fields[name] for name in Routing.model_fields if name in fields})
