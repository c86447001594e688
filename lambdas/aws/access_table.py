"""The access table: callers, the routing item of each endpoint, and the models that an operator added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from contracts.access import AccessKey, routing_pk
from contracts.catalogue import ENTRIES_ATTRIBUTE, catalogue_pk
from contracts.routing import Routing
from lambdas.aws.dynamodb import Dynamo, DynamoError, from_item


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


@dataclass(frozen=True)
class CatalogueItems:
    """What the table says of an environment's models: splits by endpoint, and the entries that an operator
    added, as text (see `contracts.catalogue`); None where there are none."""

    routings: Mapping[str, Routing]
    entries: str | None = None


class CatalogueTable:
    """The catalogue item of an environment, and the routing items of its endpoints."""

    def __init__(self, table: str, endpoint_name: str, tables: Dynamo) -> None:
        self._table = table
        self._catalogue = catalogue_pk(endpoint_name)
        self._tables = tables

    def read(self, endpoints: Iterable[str]) -> CatalogueItems:
        """The items as they are now, in one call. Raises DynamoError, or what the client raises."""
        keys = [self._catalogue, *(routing_pk(name) for name in endpoints)]
        request = {self._table: {"Keys": [{"pk": {"S": key}} for key in keys]}}
        reply = self._tables.call("BatchGetItem", RequestItems=request)
        if reply.get("UnprocessedKeys"):
            raise DynamoError("UnprocessedKeys")
        entries: str | None = None
        routings: dict[str, Routing] = {}
        for item in map(from_item, reply.get("Responses", {}).get(self._table, [])):
            if item["pk"] == self._catalogue:
                entries = item.get(ENTRIES_ATTRIBUTE)
                continue
            fields = {name: item[name] for name in Routing.model_fields if name in item}
            routing = Routing.model_validate(fields)
            routings[routing.endpoint_name] = routing
        return CatalogueItems(routings, entries)
