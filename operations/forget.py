"""Deletes what is kept of one user, with an operator's own credentials.

    python -m operations forget --env dev --tenant shop --user u-7

Transcripts in the records bucket (all versions of them), rows of the records table, and of the work bucket
and table the user's jobs, kept answers and lines in files. Counts without a user, such as metrics and usage,
stay.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from contracts.transcripts import PREFIX, day_prefix
from operations.forget_jobs import Erased, WorkEraser
from operations.stacks import stack_output
from operations.target import open_target, run


class Eraser:
    """One environment's stores. `clients` makes a boto3 client by service name."""

    def __init__(self, env: str, clients: Callable[[str], Any]) -> None:
        cloudformation = clients("cloudformation")
        self._s3 = clients("s3")
        self._dynamodb = clients("dynamodb")
        self._bucket = stack_output(cloudformation, env, "data", "RecordsBucketName")
        self._table = stack_output(cloudformation, env, "data", "RecordsTableName")
        self._work = WorkEraser(
            self._s3,
            self._dynamodb,
            stack_output(cloudformation, env, "data", "WorkBucketName"),
            stack_output(cloudformation, env, "data", "WorkTableName"),
        )

    def forget(self, tenant: str, user: str) -> tuple[int, int, Erased]:
        """Delete everything of a tenant's user; returns how many transcripts, rows and work there were."""
        # Work first: what is still to run would leave new rows.
        work = self._work.forget(tenant, user)
        return self._transcripts(tenant, user), self._rows(tenant, user), work

    def _transcripts(self, tenant: str, user: str) -> int:
        deleted = 0
        for day in self._days():
            pages = self._s3.get_paginator("list_object_versions").paginate(
                Bucket=self._bucket, Prefix=day_prefix(day, tenant, user)
            )
            for page in pages:
                # A bucket that keeps versions keeps what is deleted: each version has to go by itself.
                versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                if versions:
                    names = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in versions]
                    self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": names, "Quiet": True})
                deleted += len(page.get("Versions", []))
        return deleted

    def _days(self) -> Iterator[str]:
        pages = self._s3.get_paginator("list_object_versions").paginate(
            Bucket=self._bucket, Prefix=f"{PREFIX}day=", Delimiter="/"
        )
        for page in pages:
            for folder in page.get("CommonPrefixes", []):
                day = folder["Prefix"].removeprefix(f"{PREFIX}day=").rstrip("/")
                yield datetime.date.fromisoformat(day).isoformat()

    def _rows(self, tenant: str, user: str) -> int:
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self._table,
            FilterExpression="tenant = :tenant AND #user = :user",
            ExpressionAttributeNames={"#user": "user"},
            ExpressionAttributeValues={":tenant": {"S": tenant}, ":user": {"S": user}},
            ProjectionExpression="pk",
        )
        deleted = 0
        for request_id in [item["pk"] for page in pages for item in page["Items"]]:
            deleted += self._request(request_id)
        return deleted

    def _request(self, request_id: dict[str, str]) -> int:
        """The record of a request and the feedback on it, which names no user."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": request_id},
            ProjectionExpression="pk, sk",
        )
        keys = [item for page in pages for item in page["Items"]]
        for key in keys:
            self._dynamodb.delete_item(TableName=self._table, Key=key)
        return len(keys)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m operations forget", description=__doc__)
    for name in ("--env", "--tenant", "--user"):
        parser.add_argument(name, required=True)
    options = parser.parse_args(arguments)

    def work() -> int:
        target = open_target(options.env)
        transcripts, rows, done = Eraser(target.name, target.client).forget(options.tenant, options.user)
        print(
            f"deleted {transcripts} transcripts and {rows} rows; "
            f"{done.jobs} jobs, {done.lines} lines of files and {done.answers} kept answers"
        )
        return 0

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
