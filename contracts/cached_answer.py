"""An answer that may be given again, as the work table holds it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class CachedAnswer(BaseModel):
    """One answer in the pieces in which it came. `made_at` is in seconds since the epoch.

    `tenant` and `user` are what deletion goes by.
    """

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    made_at: float
    tenant: str
    user: str | None = None
    variant: str | None = None
    model_version: str
    pieces: list[str]
    finish_reason: str
    stop_reason: str | None = None  # the stop string at which it ended
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
