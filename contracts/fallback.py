"""Where requests go while the endpoint cannot answer, as settings write it and the front door reads it
(variable `FALLBACKS`)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

FALLBACK_VARIANT = "fallback"
"""What records, metrics and `x-evergreen-variant` call an answer that another endpoint gave."""


class FallbackTarget(BaseModel):
    """Another endpoint that serves the same protocol, in this or another region."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_name: str = Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")
    model_version: str
    region: str | None = None
