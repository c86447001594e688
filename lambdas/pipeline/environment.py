"""The variables of the functions that answer callers: `inference`, `api`, `jobs` and `job_worker`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, Json

from contracts.catalogue import ModelEntry
from contracts.fallback import Target
from contracts.guards import GuardSettings
from contracts.tracing import TracingTarget
from lambdas.runtime.function_environment import FunctionEnvironment


class ApiEnvironment(FunctionEnvironment):
    """Variables of the buffered routes. `models` is JSON: the catalogue, see `contracts.catalogue`."""

    endpoint_name: str
    model_name: str
    model_version: str
    records_table: str
    record_ttl_days: int = Field(ge=1)
    cors_origins: Json[list[str]] = []
    models: Json[list[ModelEntry]] = []


class InferenceEnvironment(ApiEnvironment):
    """Variables of the streaming routes. `max_body_bytes` is the largest body that is read.

    Prices are in US dollars per million tokens; unset where nobody has set them. `guards`, `fallbacks` and
    `tracing` are JSON; without `tracing` no spans are sent.
    Without a `transcripts_bucket` no transcript is kept. `inference_component` is called by name where the
    endpoint has components; `streamed` is false where it gives whole answers only. Where `cache_max_seconds`
    is 0 no answer is given again; where `responses_kept_seconds` is 0 no request can refer to an earlier
    one's output; where `jobs_open_per_key` is 0 no request is handed over to a job (see
    QueueEnvironment).
    """

    max_body_bytes: int = Field(ge=1024)
    input_token_price: float | None = Field(default=None, ge=0)
    output_token_price: float | None = Field(default=None, ge=0)
    inference_component: str | None = None
    streamed: bool = True
    work_table: str | None = None
    cache_max_seconds: int = Field(default=0, ge=0)
    jobs_open_per_key: int = Field(default=0, ge=0)
    responses_kept_seconds: int = Field(default=0, ge=0)
    guards: Json[GuardSettings] = GuardSettings()
    transcripts_bucket: str | None = None
    fallbacks: Json[list[Target]] = []
    tracing: Json[TracingTarget] | None = None


class QueueEnvironment(BaseModel):
    """What it takes to make a job."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=str.upper, populate_by_name=True)

    work_table: str
    work_bucket: str
    jobs_queue: str
    jobs_open_per_key: int = Field(ge=1)
    jobs_deadline_seconds: int = Field(ge=1)
    jobs_retention_seconds: int = Field(ge=1)


class JobsEnvironment(FunctionEnvironment, QueueEnvironment):
    """Variables of the routes of jobs, files and batches."""

    max_body_bytes: int = Field(ge=1024)
    jobs_max_file_bytes: int = Field(ge=1)
    jobs_max_lines: int = Field(ge=1)
    cors_origins: Json[list[str]] = []


class WorkerEnvironment(FunctionEnvironment):
    """Variables of the worker, beside those of the streaming routes, whose pipeline it runs."""

    endpoint_name: str
    work_table: str
    work_bucket: str
    jobs_queue: str
    jobs_parallel: int = Field(ge=1)
    jobs_request_seconds: int = Field(ge=1)
