"""What an operator writes when going back to a release: the lock, ledger rows, the routing item."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from contracts.access import routing_pk
from contracts.release_ledger import Lock, lock_key, release_pk
from contracts.release_tasks import LedgerRow
from contracts.routing import CHAMPION, Routing, VariantRoute
from operations.aws_errors import code_of
from operations.dynamodb import to_item
from operations.progress import CommandError

_CONDITION_FAILED = "ConditionalCheckFailedException"


def take_lock(dynamodb: Any, table: str, endpoint_name: str, lock: Lock, instead_of: Lock | None) -> None:
    """Writes the lock where there is none, or over the one that was read. Raises CommandError if too late."""
    condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
    if instead_of is not None:
        values = {":id": instead_of.release_id, ":at": instead_of.acquired_at}
        condition = {
            "ConditionExpression": "release_id = :id AND acquired_at = :at",
            "ExpressionAttributeValues": to_item(values),
        }
    item = to_item(lock_key(endpoint_name) | lock.model_dump())
    try:
        dynamodb.put_item(TableName=table, Item=item, **condition)
    except ClientError as error:
        if code_of(error) == _CONDITION_FAILED:
            raise CommandError(
                "a release took the lock at the same moment: try again when it is done."
            ) from None
        raise


def drop_lock(dynamodb: Any, table: str, endpoint_name: str, release_id: str) -> None:
    """Frees the lock if it is still this one's."""
    try:
        dynamodb.delete_item(
            TableName=table,
            Key=to_item(lock_key(endpoint_name)),
            ConditionExpression="release_id = :id",
            ExpressionAttributeValues=to_item({":id": release_id}),
        )
    except ClientError as error:
        if code_of(error) != _CONDITION_FAILED:
            raise


class LedgerWriter:
    """Adds rows to one release; none is ever changed."""

    def __init__(
        self, dynamodb: Any, table: str, release_id: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._dynamodb, self._table, self._id, self._clock = dynamodb, table, release_id, clock

    def note(self, step: str, outcome: str, reason: str, detail: Mapping[str, Any] | None = None) -> None:
        """Adds a row under the present millisecond."""
        row = LedgerRow(
            pk=release_pk(self._id),
            sk=f"{int(self._clock() * 1000):013d}#{step}",
            step=step,
            outcome=outcome,
            reason=reason,
            detail=json.dumps(detail or {}, sort_keys=True),
        )
        self._dynamodb.put_item(
            TableName=self._table,
            Item=to_item(row.model_dump()),
            ConditionExpression="attribute_not_exists(pk)",
        )


def route_to_champion(dynamodb: Any, access_table: str, endpoint_name: str, version: str) -> None:
    """Sends everyone to the champion, under its version's name: records and metrics carry it."""
    routing = Routing(
        endpoint_name=endpoint_name,
        variants=[VariantRoute(name=CHAMPION, weight=1.0, model_version=version)],
    )
    dynamodb.put_item(
        TableName=access_table, Item=to_item({"pk": routing_pk(endpoint_name), **routing.model_dump()})
    )
