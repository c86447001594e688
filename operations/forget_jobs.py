"""The part of forgetting that is about work: a user's jobs, kept answers, and lines in files of requests.

A file may speak of many users: what is one user's is cut out of it, and out of what batches made of it. A
batch under way whose file loses lines is ended, since its checkpoint counts lines. Run by `forget`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from contracts.jobs import OPEN
from contracts.kept_response import PREFIX as RESPONSES
from contracts.tasks import Task
from operations.dynamodb import from_item, to_attribute


@dataclass
class Erased:
    """How much there was."""

    jobs: int = 0
    lines: int = 0
    answers: int = 0


class WorkEraser:
    """One environment's work bucket and table, through boto3 clients."""

    def __init__(self, s3: Any, dynamodb: Any, bucket: str, table: str) -> None:
        self._s3, self._dynamodb = s3, dynamodb
        self._bucket, self._table = bucket, table

    def forget(self, tenant: str, user: str) -> Erased:
        """Delete everything of a tenant's user."""
        erased = Erased()
        rows = list(self._rows(tenant))
        for row in rows:
            if row["sk"].startswith(("ANSWER#", RESPONSES)) and row.get("user") == user:
                self._delete(row)
                erased.answers += 1
            elif row["sk"].startswith("job_") and row.get("user") == user:
                self._job(Task.model_validate({**row, "id": row["sk"]}))
                erased.jobs += 1
        self._files(rows, user, erased)
        return erased

    def _files(self, rows: list[dict[str, Any]], user: str, erased: Erased) -> None:
        files = {row["sk"]: row for row in rows if row["sk"].startswith("file-")}
        cut: dict[str, set[str]] = {}
        for name, file in files.items():
            if file["purpose"] == "batch":
                cut[name] = self._cut(file, lambda line: (line.get("body") or {}).get("user") == user)
                erased.lines += len(cut[name])
        for row in rows:
            if not row["sk"].startswith("batch_"):
                continue
            batch = Task.model_validate({**row, "id": row["sk"]})
            results = [files[name] for name in (batch.output_file_id, batch.error_file_id) if name in files]
            if batch.input_file_id not in cut:
                # Nothing says any more whose lines these are.
                for file in results:
                    self._remove(file)
                continue
            names = cut[batch.input_file_id]
            if not names:
                continue
            theirs = _one_of(names)
            erased.lines += sum(len(self._cut(file, theirs)) for file in results)
            if batch.status in OPEN:
                self._stop(batch)

    def _cut(self, file: dict[str, Any], is_theirs: Callable[[dict[str, Any]], bool]) -> set[str]:
        """Rewrite a file without the user's lines; the custom ids of what was cut."""
        try:
            content: bytes = self._s3.get_object(Bucket=self._bucket, Key=file["key"])["Body"].read()
        except self._s3.exceptions.NoSuchKey:
            return set()
        left, cut = bytearray(), set()
        for text in content.splitlines(keepends=True):
            line = _parsed(text)
            if line is not None and is_theirs(line):
                cut.add(str(line.get("custom_id")))
            else:
                left += text
        if cut and left.strip():
            self._s3.put_object(Bucket=self._bucket, Key=file["key"], Body=bytes(left))
            self._set(file, {"bytes": len(left)})
        elif cut:
            self._remove(file)
        return cut

    def _job(self, task: Task) -> None:
        for key in (task.input_key, task.result_key):
            self._s3.delete_object(Bucket=self._bucket, Key=key)
        self._delete({"pk": task.pk, "sk": task.id})
        if task.slot and not task.is_over:
            self._delete({"pk": task.pk, "sk": task.slot})

    def _stop(self, batch: Task) -> None:
        for number in range(batch.parts + 1):
            self._s3.delete_object(Bucket=self._bucket, Key=batch.part_key(number))
        self._set({"pk": batch.pk, "sk": batch.id}, {"status": "cancelled", "parts": 0})
        if batch.slot:
            self._delete({"pk": batch.pk, "sk": batch.slot})

    def _remove(self, file: dict[str, Any]) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=file["key"])
        self._delete(file)

    def _rows(self, tenant: str) -> Iterator[dict[str, Any]]:
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self._table,
            FilterExpression="tenant = :tenant",
            ExpressionAttributeValues={":tenant": {"S": tenant}},
        )
        for page in pages:
            for item in page["Items"]:
                yield from_item(item)

    def _delete(self, row: dict[str, Any]) -> None:
        self._dynamodb.delete_item(TableName=self._table, Key=_key(row))

    def _set(self, row: dict[str, Any], values: dict[str, Any]) -> None:
        self._dynamodb.update_item(
            TableName=self._table,
            Key=_key(row),
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
            ExpressionAttributeNames={f"#{name}": name for name in values},
            ExpressionAttributeValues={f":{name}": to_attribute(value) for name, value in values.items()},
        )


def _one_of(names: set[str]) -> Callable[[dict[str, Any]], bool]:
    return lambda line: line.get("custom_id") in names


def _key(row: dict[str, Any]) -> dict[str, Any]:
    return {"pk": {"S": row["pk"]}, "sk": {"S": row["sk"]}}


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
