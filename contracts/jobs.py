"""Long work: single jobs and OpenAI's batches, as callers see them and as the queue names them.

A job is one request that is answered later; a batch is a file of them. Sources: the OpenAI API reference,
"Batch" and "Files"; `job` objects are Evergreen's own, in the same style. Times are seconds since the epoch.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.errors import ErrorObject

Route = Literal[
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/score",
    "/v1/classify",
    "/v1/moderations",
]
JobStatus = Literal["queued", "in_progress", "cancelling", "completed", "failed", "cancelled", "expired"]
BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
Metadata = Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)]

OPEN: tuple[JobStatus, ...] = ("queued", "in_progress", "cancelling")
"""A job of another status is over and does not change any more."""

COMPLETION_WINDOW = "24h"


class _Request(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid", strict=True)


class _Answer(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")


class JobRequest(_Request):
    """Body of `POST /v1/jobs`: what would have gone to `url` as `body`; `endpoint` is another name of it."""

    url: Route | None = None
    endpoint: Route | None = None
    body: dict[str, Any]

    @model_validator(mode="after")
    def _one_route_and_no_stream(self) -> JobRequest:
        if (self.url is None) == (self.endpoint is None):
            raise ValueError("give one of url and endpoint: the route that 'body' is for")
        if self.body.get("stream"):
            raise ValueError("a job's answer is whole: leave 'stream' out of 'body'")
        return self

    @property
    def route(self) -> Route:
        """The route the body is for."""
        route = self.url or self.endpoint
        assert route is not None
        return route


class Job(_Answer):
    """One request that is answered later. The answer is at `result_url` once `status` is `completed`."""

    id: str
    object: Literal["job"] = "job"
    url: str
    status: JobStatus
    created_at: int
    started_at: int | None = None
    finished_at: int | None = None
    deadline: int
    expires_at: int
    result_url: str | None = None
    error: ErrorObject | None = None


class JobDeleted(_Answer):
    """Reply of `DELETE /v1/jobs/{id}` for a job that is over."""

    id: str
    object: Literal["job"] = "job"
    deleted: Literal[True] = True


class File(_Answer):
    """One file; `purpose` is `batch` for what callers bring and `batch_output` for what a batch leaves."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"] = "processed"


class FileList(_Answer):
    """Reply of `GET /v1/files`, newest first."""

    object: Literal["list"] = "list"
    data: list[File]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class FileDeleted(_Answer):
    """Reply of `DELETE /v1/files/{id}`."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class BatchRequest(_Request):
    """Body of `POST /v1/batches`."""

    input_file_id: str = Field(min_length=1, max_length=64)
    endpoint: Route
    completion_window: Literal["24h"]
    metadata: Metadata | None = None


class BatchError(_Answer):
    """Why a batch could not begin; `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(_Answer):
    """All of them, or the first hundred."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(_Answer):
    """How many of a batch's requests are done."""

    total: int
    completed: int
    failed: int


class Batch(_Answer):
    """A file of requests under way."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: str = COMPLETION_WINDOW
    status: BatchStatus
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts
    metadata: dict[str, str] | None = None


class BatchList(_Answer):
    """Reply of `GET /v1/batches`, newest first."""

    object: Literal["list"] = "list"
    data: list[Batch]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class BatchLine(BaseModel):
    """One line of a batch's input file."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid", strict=True)

    custom_id: str = Field(min_length=1, max_length=128)
    method: Literal["POST"]
    url: Route
    body: dict[str, Any]


class Ticket(BaseModel):
    """A message of the queue: which task to go on with. It says nothing of what is asked."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid")

    pk: str
    id: str


def queue_name(environment: str, *, dead: bool = False) -> str:
    """The queue of tickets, or of those that no worker could take, of `evergreen-<env>`."""
    return f"{environment}-jobs-dead" if dead else f"{environment}-jobs"


def work_pk(tenant: str, key_id: str, subject: str = "") -> str:
    """The work table's partition of one key, or of one bearer where many share what stands for a key.

    What lies there is nobody else's to see.
    """
    owner = f"{tenant}\0{key_id}" + (f"\0{subject}" if subject else "")
    return "WORK#" + hashlib.sha256(owner.encode()).hexdigest()[:32]
