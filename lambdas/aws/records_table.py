"""The records table: what is kept of each request, and the feedback on it."""

from __future__ import annotations

import time

from contracts.records import Feedback, InferenceRecord
from lambdas.aws.dynamodb import Dynamo, from_item, to_item


class RecordsTable:
    """Rows that live for `ttl_days`: records of requests, and feedback beside them."""

    def __init__(self, table: str, ttl_days: int, tables: Dynamo) -> None:
        self._table = table
        self._ttl_seconds = ttl_days * 86_400
        self._tables = tables

    def store(self, record: InferenceRecord) -> None:
        """Put the row of a request. Raises what the tables raise."""
        row = {
            "pk": record.request_id,
            "sk": "RECORD",
            "expires_at": int(time.time()) + self._ttl_seconds,
            **record.model_dump(),
        }
        self._tables.call("PutItem", TableName=self._table, Item=to_item(row))

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
