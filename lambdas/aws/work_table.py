"""The work table: tasks, files of requests, slots and cached answers, each under its owner."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from contracts.cached_answer import CachedAnswer
from contracts.jobs import OPEN, JobStatus, Ticket
from contracts.tasks import StoredFile, Task
from lambdas.aws.dynamodb import ConditionFailedError, Dynamo, from_item, to_attribute, to_item

_NEVER = "NOBODY"


class LeaseLostError(Exception):
    """The task is another worker's, is over, or has been deleted."""


class WorkTable:
    """Tasks and files: `pk` is the owner (`contracts.jobs.work_pk`), `sk` the id."""

    def __init__(self, table: str, tables: Dynamo) -> None:
        self._table = table
        self._tables = tables

    # ---- reading ----

    def task(self, pk: str, id: str) -> Task | None:
        """A task of this owner; None where there is none, or none any more."""
        row = self._row(pk, id)
        return Task.model_validate({**row, "id": id}) if row else None

    def file(self, pk: str, id: str) -> StoredFile | None:
        """A file of this owner."""
        row = self._row(pk, id)
        return StoredFile.model_validate({**row, "id": id}) if row else None

    def newest(
        self, pk: str, prefix: str, limit: int, after: str | None
    ) -> tuple[list[dict[str, Any]], bool]:
        """Rows whose id begins with `prefix`, newest first, behind `after`; and whether there are more."""
        start = {"ExclusiveStartKey": _key(pk, after)} if after else {}
        reply = self._tables.call(
            "Query",
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
            ExpressionAttributeValues={":pk": {"S": pk}, ":prefix": {"S": prefix}},
            ScanIndexForward=False,
            Limit=limit + 1,
            **start,
        )
        rows = [from_item(item) for item in reply.get("Items", [])]
        more = len(rows) > limit or "LastEvaluatedKey" in reply
        return [{**row, "id": row["sk"]} for row in rows[:limit]], more

    # ---- coming and going ----

    def add(self, row: dict[str, Any]) -> bool:
        """Put a row of a new id; False where the id is taken."""
        try:
            self._tables.call(
                "PutItem",
                TableName=self._table,
                Item=to_item(row),
                ConditionExpression="attribute_not_exists(pk)",
            )
        except ConditionFailedError:
            return False
        return True

    def remove(self, pk: str, id: str) -> None:
        """Delete a row."""
        self._tables.call("DeleteItem", TableName=self._table, Key=_key(pk, id))

    def agreed_id(self, pk: str, name: str, id: str, until: int) -> str:
        """The id that all who ask under this owner's name get until then (seconds): `id` for the first."""
        sk, now = f"IDEMPOTENCY#{name}", int(time.time())
        try:
            self._tables.call(
                "PutItem",
                TableName=self._table,
                Item=to_item({"pk": pk, "sk": sk, "task": id, "expires_at": until}),
                ConditionExpression="attribute_not_exists(pk) OR expires_at <= :now",
                ExpressionAttributeValues={":now": {"N": str(now)}},
            )
        except ConditionFailedError:
            row = self._row(pk, sk)
            return str(row["task"]) if row else id
        return id

    def take_slot(self, pk: str, task: str, slots: int, until: int) -> str | None:
        """One of the owner's `slots`, which bound how many tasks it has open; None where all are taken.

        Each slot is a row of its own, claimed by a condition: parallel callers cannot exceed the bound.
        """
        now = int(time.time())
        reply = self._tables.call(
            "Query",
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :prefix)",
            FilterExpression="expires_at > :now",
            ExpressionAttributeValues={":pk": {"S": pk}, ":prefix": {"S": "SLOT#"}, ":now": {"N": str(now)}},
            ConsistentRead=True,
        )
        taken = {item["sk"]["S"] for item in reply.get("Items", [])}
        for slot in (name for number in range(slots) if (name := f"SLOT#{number:04d}") not in taken):
            try:
                self._tables.call(
                    "PutItem",
                    TableName=self._table,
                    Item=to_item({"pk": pk, "sk": slot, "task": task, "expires_at": until}),
                    ConditionExpression="attribute_not_exists(pk) OR expires_at <= :now",
                    ExpressionAttributeValues={":now": {"N": str(now)}},
                )
            except ConditionFailedError:
                continue
            return slot
        return None

    def free_slot(self, pk: str, slot: str | None, task: str) -> None:
        """Give a slot back, if it is still this task's."""
        if slot is None:
            return
        with contextlib.suppress(ConditionFailedError):
            self._tables.call(
                "DeleteItem",
                TableName=self._table,
                Key=_key(pk, slot),
                ConditionExpression="task = :task",
                ExpressionAttributeValues={":task": {"S": task}},
            )

    # ---- on the way ----

    def lease(self, ticket: Ticket, worker: str, seconds: float) -> Task:
        """Claim an open task that no other worker holds. Raises LeaseLostError; its text says until when."""
        now = time.time()
        task = self.task(ticket.pk, ticket.id)
        if task is None or task.is_over:
            raise LeaseLostError("over")
        return self._update(
            task,
            "SET lease_by = :worker, lease_until = :until, #status = :status, "
            "started_at = if_not_exists(started_at, :now), attempts = :attempts",
            "#status IN (:queued, :in_progress, :cancelling) AND lease_until <= :now",
            {
                "worker": worker,
                "until": now + seconds,
                "now": int(now),
                "status": "in_progress" if task.status == "queued" else task.status,
                "attempts": task.attempts + 1,
                **{status: status for status in OPEN},
            },
        )

    def advance(self, task: Task, values: dict[str, Any]) -> Task:
        """Write `values` into an open task this worker holds; the row as it is then.

        Raises LeaseLostError.
        """
        sets = ", ".join(f"#{name} = :{name}" for name in values)
        return self._update(
            task,
            f"SET {sets}",
            "lease_by = :me AND #status IN (:queued, :in_progress, :cancelling)",
            {**values, "me": task.lease_by or _NEVER, **{status: status for status in OPEN}},
            list(values),
        )

    def end(
        self,
        task: Task,
        status: JobStatus,
        values: dict[str, Any],
        *,
        worker: str | None = None,
        still: tuple[JobStatus, ...] = OPEN,
    ) -> Task:
        """Give a task its last status and free its slot. Raises LeaseLostError where its status is none of
        `still`, or where it is not held by `worker`, if one is named."""
        sets = {**values, "status": status, "finished_at": int(time.time())}
        assignments = ", ".join(f"#{name} = :new_{name}" for name in sets)
        condition = f"#status IN ({', '.join(f':{name}' for name in still)})"
        ended = self._update(
            task,
            f"SET {assignments}",
            condition + (" AND lease_by = :me" if worker else ""),
            {
                **{f"new_{name}": value for name, value in sets.items()},
                **{name: name for name in still},
                **({"me": worker} if worker else {}),
            },
            list(sets),
        )
        self.free_slot(task.pk, task.slot, task.id)
        return ended

    def cancel(self, task: Task) -> Task:
        """Ask whoever works on an open task to stop. Raises LeaseLostError where it is over already."""
        return self._update(
            task,
            "SET #status = :cancelling, cancelling_at = if_not_exists(cancelling_at, :now)",
            "#status IN (:queued, :in_progress, :cancelling)",
            {"now": int(time.time()), **{status: status for status in OPEN}},
        )

    # ---- inside ----

    def _row(self, pk: str, id: str) -> dict[str, Any] | None:
        reply = self._tables.call("GetItem", TableName=self._table, Key=_key(pk, id), ConsistentRead=True)
        return from_item(reply["Item"]) if "Item" in reply else None

    def _update(
        self, task: Task, update: str, condition: str, values: dict[str, Any], named: list[str] | None = None
    ) -> Task:
        names = {f"#{name}": name for name in named or []} | (
            {"#status": "status"} if "#status" in update + condition else {}
        )
        try:
            reply = self._tables.call(
                "UpdateItem",
                TableName=self._table,
                Key=_key(task.pk, task.id),
                UpdateExpression=update,
                ConditionExpression=f"attribute_exists(pk) AND {condition}",
                ExpressionAttributeValues={f":{name}": to_attribute(value) for name, value in values.items()},
                ReturnValues="ALL_NEW",
                **({"ExpressionAttributeNames": names} if names else {}),
            )
        except ConditionFailedError:
            raise LeaseLostError("held") from None
        return Task.model_validate({**from_item(reply["Attributes"]), "id": task.id})


def _key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


class AnswersTable:
    """Answers that may be given again, in the work table under the key that asked for them."""

    def __init__(self, table: str, tables: Dynamo) -> None:
        self._table = table
        self._tables = tables

    def find(self, owner: str, digest: str) -> CachedAnswer | None:
        """See cache.Answers.find. The table itself forgets a row only some time after it has run out."""
        key = {"pk": {"S": owner}, "sk": {"S": f"ANSWER#{digest}"}}
        row = from_item(self._tables.call("GetItem", TableName=self._table, Key=key).get("Item") or {})
        return CachedAnswer.model_validate(row) if row.get("expires_at", 0) > time.time() else None

    def keep(self, owner: str, digest: str, answer: CachedAnswer, seconds: int) -> None:
        """See cache.Answers.keep."""
        row = {
            "pk": owner,
            "sk": f"ANSWER#{digest}",
            "expires_at": int(answer.made_at) + seconds,
            **answer.model_dump(),
        }
        self._tables.call("PutItem", TableName=self._table, Item=to_item(row))
