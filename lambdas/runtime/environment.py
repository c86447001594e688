"""What each function reads from its environment, typed. Nothing else may read `os.environ`.

`load` is called while a function starts, so a missing or malformed variable is one clear init error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from contracts.fallback import Target
from contracts.guards import GuardSettings
from contracts.tokens import TokenIssuer


class BadEnvironment(Exception):
    """A variable is missing or malformed; the message names every such variable."""


class FunctionEnvironment(BaseModel):
    """Variables every function has; extend it for those of your own."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=str.upper, populate_by_name=True)

    environment: str
    log_level: str = "INFO"
    access_table: str


class AuthorizerEnvironment(FunctionEnvironment):
    """Variables of the authorizer. `jwt_issuers` is JSON; without it tokens open nothing."""

    jwt_issuers: Json[list[TokenIssuer]] = []


class ApiEnvironment(FunctionEnvironment):
    """Variables of the buffered routes."""

    endpoint_name: str
    model_name: str
    model_version: str
    records_table: str
    record_ttl_days: int = Field(ge=1)
    cors_origins: Json[list[str]] = []


class InferenceEnvironment(ApiEnvironment):
    """Variables of the streaming routes. `max_body_bytes` is the largest body that is read.

    Prices are in US dollars per million tokens; 0 where nobody accounts for cost. `guards` and
    `fallbacks` are JSON.
    Without a `transcripts_bucket` no transcript is kept. `inference_component` is called by name where the
    endpoint has components; `streamed` is false where it gives whole answers only. Where `cache_max_seconds`
    is 0 no answer is given again; where `jobs_open_per_key` is 0 no request is handed over to a job (see
    QueueEnvironment).
    """

    max_body_bytes: int = Field(ge=1024)
    input_token_price: float = Field(default=0, ge=0)
    output_token_price: float = Field(default=0, ge=0)
    inference_component: str | None = None
    streamed: bool = True
    work_table: str | None = None
    cache_max_seconds: int = Field(default=0, ge=0)
    jobs_open_per_key: int = Field(default=0, ge=0)
    guards: Json[GuardSettings] = GuardSettings()
    transcripts_bucket: str | None = None
    fallbacks: Json[list[Target]] = []


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


E_ = TypeVar("E_", bound=BaseModel)


def load(kind: type[E_], variables: Mapping[str, str]) -> E_:
    """Read one function's variables. Raises BadEnvironment naming each one that is missing or malformed."""
    try:
        return kind.model_validate(dict(variables))
    except ValidationError as error:
        problems = "; ".join(f"{detail['loc'][0]}: {detail['msg']}" for detail in error.errors())
        raise BadEnvironment(f"environment of the function: {problems}") from None
