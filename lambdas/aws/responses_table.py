"""Answers of `/v1/responses` that later requests may refer to, in the work table under their key."""

from __future__ import annotations

import time

from contracts.kept_response import PREFIX, KeptResponse
from lambdas.aws.dynamodb import Dynamo, from_item, to_item


class ResponsesTable:
    """`owner` is `contracts.jobs.work_pk`, `id` the answer's. The table itself encrypts."""

    def __init__(self, table: str, tables: Dynamo) -> None:
        self._table = table
        self._tables = tables

    def find(self, owner: str, id: str) -> KeptResponse | None:
        """An owner's answer. The table itself forgets a row only some time after it has run out."""
        reply = self._tables.call("GetItem", TableName=self._table, Key=_key(owner, id), ConsistentRead=True)
        row = from_item(reply.get("Item") or {})
        return (
            KeptResponse.model_validate_json(row["kept"]) if row.get("expires_at", 0) > time.time() else None
        )

    def keep(self, owner: str, kept: KeptResponse, seconds: int) -> None:
        """Keep an answer for so long."""
        row = {
            "pk": owner,
            "sk": PREFIX + kept.response.id,
            "tenant": kept.tenant,
            "user": kept.user,
            "expires_at": int(time.time()) + seconds,
            "kept": kept.model_dump_json(exclude_none=True),
        }
        self._tables.call("PutItem", TableName=self._table, Item=to_item(row))

    def remove(self, owner: str, id: str) -> None:
        """Forget an owner's answer."""
        self._tables.call("DeleteItem", TableName=self._table, Key=_key(owner, id))


def _key(owner: str, id: str) -> dict[str, dict[str, str]]:
    return {"pk": {"S": owner}, "sk": {"S": PREFIX + id}}
