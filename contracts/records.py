"""What is kept of a request: the record, and the feedback tied to it.

A record holds counts and timings, never the prompt or the answer in clear.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

CALLS_INDEX = "by-version-received"  # records of one model version by `received_at`
RATINGS_INDEX = "by-version-given"  # feedback on one model version by `given_at`


class InferenceRecord(BaseModel):
    """One request as the API saw it. Times are seconds since the epoch or milliseconds as named.

    `findings` are the guards' as `<guard>:<label>:<action>`, `guard_ms` the time each took. `cached`: the
    answer was a kept one, which costs nothing. `cost_nano_usd` is in billionths of a dollar, None where no
    price was set.
    """

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid")

    request_id: str
    tenant: str
    user: str | None
    received_at: float
    model: str
    model_version: str
    variant: str | None
    streamed: bool
    status: int
    error_type: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    time_to_first_token_ms: float | None = None
    duration_ms: float
    findings: list[str] = Field(default_factory=list)
    guard_ms: dict[str, float] = Field(default_factory=dict)
    cached: bool = False
    cost_nano_usd: int | None = None


class FeedbackRequest(BaseModel):
    """Body of `POST /v1/feedback`: at least one of thumbs, score, correction and comment."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid", strict=True)

    request_id: str = Field(min_length=1, max_length=128)
    thumbs: Literal["up", "down"] | None = None
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    correction: str | None = Field(default=None, max_length=32_768)
    comment: str | None = Field(default=None, max_length=4_096)

    @model_validator(mode="after")
    def _says_something(self) -> FeedbackRequest:
        if self.thumbs is None and self.score is None and not self.correction and not self.comment:
            raise ValueError("give at least one of thumbs, score, correction, comment")
        return self


class Feedback(BaseModel):
    """Stored feedback: the request's body joined to the variant and model version that answered."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid")

    feedback_id: str
    request_id: str
    tenant: str
    variant: str | None
    model_version: str
    given_at: float
    thumbs: Literal["up", "down"] | None = None
    score: float | None = None
    correction: str | None = None
    comment: str | None = None


class FeedbackReceipt(BaseModel):
    """Reply of `POST /v1/feedback`; `created` is in seconds since the epoch."""

    model_config = ConfigDict(defer_build=True, frozen=True)

    id: str
    object: Literal["feedback"] = "feedback"
    request_id: str
    created: int
