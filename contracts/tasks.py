"""A task: one job or one batch on its way, as the work table holds it. Knows neither HTTP nor AWS.

A job is a batch of a single request: the worker treats both alike. `next_line` and `ahead` are the
checkpoint: all lines before `next_line` are done, and of those behind it the ones in `ahead`.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from contracts.errors import ErrorObject
from contracts.jobs import OPEN, BatchError, JobStatus

Kind = Literal["job", "batch"]
_PREFIXES: dict[Kind, str] = {"job": "job_", "batch": "batch_"}


class Task(BaseModel):
    """One row. `authorizer` is what API Gateway's authorizer said of the key; `lease` is a worker's claim."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pk: str
    id: str
    kind: Kind
    tenant: str
    user: str | None = None
    url: str
    status: JobStatus
    authorizer: dict[str, str]
    created_at: int
    deadline: int
    expires_at: int
    slot: str | None = None
    fingerprint: str | None = None
    metadata: dict[str, str] | None = None

    input_key: str
    input_file_id: str | None = None
    lines: int

    next_line: int = 0
    ahead: list[int] = []
    parts: int = 0
    completed: int = 0
    failed: int = 0
    attempts: int = 0
    waits: int = 0
    tries: dict[str, int] = {}
    lease_by: str | None = None
    lease_until: float = 0.0

    started_at: int | None = None
    cancelling_at: int | None = None
    finished_at: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    error: ErrorObject | None = None
    errors: list[BatchError] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status not in OPEN

    @property
    def folder(self) -> str:
        """Where its objects lie in the work bucket."""
        return f"tasks/{self.pk.removeprefix('WORK#')}/{self.id}"

    @property
    def result_key(self) -> str:
        """The object with a job's one outcome."""
        return f"{self.folder}/result.json"

    def part_key(self, number: int) -> str:
        """The object with some of a batch's outcomes, one to a line; there are `parts` of them."""
        return f"{self.folder}/part-{number:06d}.jsonl"

    def row(self) -> dict[str, Any]:
        """As plain values for the table, whose sort key is the id."""
        values = self.model_dump(exclude_none=True, exclude={"id"})
        return {**values, "sk": self.id}


class StoredFile(BaseModel):
    """A file's row; `key` is its object."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pk: str
    id: str
    tenant: str
    key: str
    bytes: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    created_at: int
    expires_at: int
    of_batch: str | None = None

    def row(self) -> dict[str, Any]:
        """As plain values for the table, whose sort key is the id."""
        return {**self.model_dump(exclude_none=True, exclude={"id"}), "sk": self.id}


def new_id(kind: Kind | Literal["file"], now: float) -> str:
    """A name that nobody guesses and that sorts by time."""
    prefix = "file-" if kind == "file" else _PREFIXES[kind]
    return f"{prefix}{int(now):08x}{secrets.token_hex(10)}"


def new_file(
    pk: str, tenant: str, purpose: Literal["batch", "batch_output"], filename: str, expires_at: int
) -> StoredFile:
    """A file of no bytes yet."""
    now = time.time()
    name = new_id("file", now)
    return StoredFile(
        pk=pk,
        id=name,
        tenant=tenant,
        key=f"files/{pk.removeprefix('WORK#')}/{name}.jsonl",
        bytes=0,
        filename=filename,
        purpose=purpose,
        created_at=int(now),
        expires_at=expires_at,
    )
