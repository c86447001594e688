"""The tables of a release: ledger, lock, routing item, and what a stage's traffic left in the records.

Speaks DynamoDB through lambdas.aws.dynamodb; decides nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from contracts.access import routing_pk
from contracts.release_ledger import Lock, data_key, lock_key, release_pk
from contracts.release_tasks import LedgerRow
from contracts.routing import Routing
from lambdas.aws.dynamodb import ConditionFailedError, Dynamo, from_item, to_item
from lambdas.release.analysis import CallRecord, Rating
from lambdas.release.approval import PendingApproval

CALLS_INDEX = "by-version-received"
RATINGS_INDEX = "by-version-given"
_SAME_MILLISECOND_TRIES = 20
_MAX_PAGES = 50  # of at most 1 MB each; the oldest rows come first, and the looks cut there


class ReleaseLedger:
    """Rows that are only ever added: what happened to a release, in order."""

    def __init__(self, table: str, tables: Dynamo, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._tables = tables
        self._clock = clock

    def note(
        self,
        release_id: str,
        step: str,
        outcome: str,
        reason: str = "",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a row under the present millisecond, or the next free one."""
        now = int(self._clock() * 1000)
        for later in range(_SAME_MILLISECOND_TRIES):
            row = LedgerRow(
                pk=release_pk(release_id),
                sk=f"{now + later:013d}#{step}",
                step=step,
                outcome=outcome,
                reason=reason,
                detail=json.dumps(detail or {}, sort_keys=True),
            )
            try:
                self._tables.call(
                    "PutItem",
                    TableName=self._table,
                    Item=to_item(row.model_dump()),
                    ConditionExpression="attribute_not_exists(pk)",
                )
            except ConditionFailedError:
                continue
            return
        raise RuntimeError(f"{_SAME_MILLISECOND_TRIES} rows of one step within as many milliseconds")


class LockTable:
    """The lock of one endpoint: a row of the ledger's table."""

    def __init__(self, table: str, endpoint_name: str, tables: Dynamo) -> None:
        self._table = table
        self._key = lock_key(endpoint_name)
        self._tables = tables

    def read(self) -> Lock | None:
        """The lock as it is now; None while it is free."""
        reply = self._tables.call(
            "GetItem", TableName=self._table, Key=to_item(self._key), ConsistentRead=True
        )
        return Lock.model_validate(from_item(reply["Item"])) if reply.get("Item") else None

    def take(self, lock: Lock, instead_of: Lock | None) -> bool:
        """Write the lock if nobody has it, or if it still is `instead_of`'s. False where it is not."""
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if instead_of is not None:
            condition = {
                "ConditionExpression": "execution_arn = :arn AND acquired_at = :at",
                "ExpressionAttributeValues": to_item(
                    {":arn": instead_of.execution_arn, ":at": instead_of.acquired_at}
                ),
            }
        try:
            self._tables.call(
                "PutItem", TableName=self._table, Item=to_item(self._key | lock.model_dump()), **condition
            )
        except ConditionFailedError:
            return False
        return True

    def drop(self, release_id: str) -> bool:
        """Free the lock if it is this release's. False where it is not."""
        try:
            self._tables.call(
                "DeleteItem",
                TableName=self._table,
                Key=to_item(self._key),
                ConditionExpression="release_id = :release",
                ExpressionAttributeValues=to_item({":release": release_id}),
            )
        except ConditionFailedError:
            return False
        return True


class TrainedData(BaseModel):
    """Digest of the data that the last release began with; `finished` once it came to a decision."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    digest: str
    release_id: str
    finished: bool


class TrainedDataTable:
    """What the last release of one endpoint was trained on: a row of the ledger's table."""

    def __init__(self, table: str, endpoint_name: str, tables: Dynamo) -> None:
        self._table = table
        self._key = data_key(endpoint_name)
        self._tables = tables

    def read(self) -> TrainedData | None:
        """The row; None before the first release."""
        reply = self._tables.call(
            "GetItem", TableName=self._table, Key=to_item(self._key), ConsistentRead=True
        )
        return TrainedData.model_validate(from_item(reply["Item"])) if reply.get("Item") else None

    def write(self, data: TrainedData) -> None:
        """Replace the row; only the release that holds the lock does."""
        self._tables.call("PutItem", TableName=self._table, Item=to_item(self._key | data.model_dump()))


class PendingApprovalTable:
    """Pending approvals: each under `APPROVAL`, its decision, which is written once, beside it."""

    def __init__(self, table: str, tables: Dynamo) -> None:
        self._table = table
        self._tables = tables

    def put(self, release_id: str, approval: PendingApproval) -> None:
        """Keep the approval; it replaces an older one of the release."""
        row = {**_approval_key(release_id), **approval.model_dump()}
        self._tables.call("PutItem", TableName=self._table, Item=to_item(row))

    def find(self, release_id: str) -> PendingApproval | None:
        """The release's pending approval; None where there is none."""
        row = self._read(_approval_key(release_id))
        return PendingApproval.model_validate(row) if row else None

    def record_decision(self, release_id: str, secret_hash: str, decision: str) -> str:
        """Record the decision unless there is one; the decision that holds."""
        key = _approval_key(release_id, f"#{secret_hash}")
        try:
            self._tables.call(
                "PutItem",
                TableName=self._table,
                Item=to_item({**key, "decision": decision}),
                ConditionExpression="attribute_not_exists(pk)",
            )
        except ConditionFailedError:
            return str(self._read(key)["decision"])
        return decision

    def _read(self, key: dict[str, str]) -> dict[str, Any]:
        reply = self._tables.call("GetItem", TableName=self._table, Key=to_item(key), ConsistentRead=True)
        return from_item(reply.get("Item") or {})


def _approval_key(release_id: str, suffix: str = "") -> dict[str, str]:
    return {"pk": release_pk(release_id), "sk": f"APPROVAL{suffix}"}


class RoutingItem:
    """The split that the front door reads."""

    def __init__(self, table: str, endpoint_name: str, tables: Dynamo) -> None:
        self._table = table
        self._key = to_item({"pk": routing_pk(endpoint_name)})
        self._tables = tables

    def read(self) -> Routing | None:
        """The item as it was last written, which the front door's cheaper read does not promise."""
        reply = self._tables.call("GetItem", TableName=self._table, Key=self._key, ConsistentRead=True)
        if not reply.get("Item"):
            return None
        fields = from_item(reply["Item"])
        return Routing.model_validate({name: fields[name] for name in Routing.model_fields if name in fields})

    def write(self, routing: Routing) -> None:
        """Put the routing item."""
        row = {"pk": routing_pk(routing.endpoint_name), **routing.model_dump()}
        self._tables.call("PutItem", TableName=self._table, Item=to_item(row))


class TrafficTable:
    """What callers of one model version got and what they said of it, through the records table's indexes."""

    def __init__(self, table: str, tables: Dynamo) -> None:
        self._table = table
        self._tables = tables

    def calls(self, model_version: str, variant: str, since: float) -> list[CallRecord]:
        """Requests that came since then (seconds since the epoch), oldest first."""
        return [
            CallRecord(
                received_at=row["received_at"],
                status=row["status"],
                ttft_ms=row.get("time_to_first_token_ms"),
            )
            for row in self._rows(CALLS_INDEX, "received_at", model_version, since)
            if row.get("variant") == variant
        ]

    def ratings(self, model_version: str, variant: str, since: float) -> list[Rating]:
        """Thumbs and scores given since then, oldest first; thumbs are 1 or 0."""
        return [
            Rating(request_id=row["request_id"], given_at=row["given_at"], score=score)
            for row in self._rows(RATINGS_INDEX, "given_at", model_version, since)
            if row.get("variant") == variant and (score := _score(row)) is not None
        ]

    def _rows(self, index: str, time_name: str, model_version: str, since: float) -> Iterator[dict[str, Any]]:
        start: dict[str, Any] = {}
        for _ in range(_MAX_PAGES):
            reply = self._tables.call(
                "Query",
                TableName=self._table,
                IndexName=index,
                KeyConditionExpression="model_version = :version AND #time >= :since",
                ExpressionAttributeNames={"#time": time_name},
                ExpressionAttributeValues=to_item({":version": model_version, ":since": since}),
                **start,
            )
            yield from (from_item(item) for item in reply["Items"])
            if not reply.get("LastEvaluatedKey"):
                return
            start = {"ExclusiveStartKey": reply["LastEvaluatedKey"]}


def _score(row: Mapping[str, Any]) -> float | None:
    if row.get("score") is not None:
        return float(row["score"])
    return None if row.get("thumbs") is None else float(row["thumbs"] == "up")
