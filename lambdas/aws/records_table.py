"""The only module of this function that talks to AWS: records, feedback and usage, all in one table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from contracts.records import Feedback, InferenceRecord
from contracts.usage import usage_pk, usage_sk
from lambdas.aws.dynamodb import Dynamo, from_item, to_item


class UsageTable:
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


class RecordsTable:
    """Records as the streaming function wrote them, and feedback rows beside them."""

    def __init__(self, table: str, ttl_days: int, tables: Dynamo) -> None:
        self._table = table
        self._ttl_seconds = ttl_days * 86_400
        self._tables = tables

    def find(self, request_id: str) -> InferenceRecord | None:
        """Read consistently: feedback may follow its answer at once."""
        reply = self._tables.call(
            "GetItem",
            TableName=self._table,
            Key={"pk": {"S": request_id}, "sk": {"S": "RECORD"}},
            ConsistentRead=True,
        )
        if "Item" not in reply:
            return None
        fields = from_item(reply["Item"])
        # Fields that were None are not stored, and rows of an earlier version lack what came later.
        known = {
            name: fields.get(name)
            for name, field in InferenceRecord.model_fields.items()
            if name in fields or field.is_required() or field.default is None
        }
        return InferenceRecord.model_validate(known)

    def add(self, feedback: Feedback) -> None:
        """Put the row of a piece of feedback."""
        row = {
            "pk": feedback.request_id,
            "sk": f"FEEDBACK#{feedback.feedback_id}",
            "expires_at": int(time.time()) + self._ttl_seconds,
            **feedback.model_dump(),
        }
        self._tables.call("PutItem", TableName=self._table, Item=to_item(row))
