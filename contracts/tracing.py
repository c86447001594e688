"""Where the functions send the spans of a request: settings write it, the asking functions read it
(variable `TRACING`)."""

from __future__ import annotations

import urllib.parse
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

PATH = "/v1/traces"
"""OTLP over HTTP names it so, at X-Ray as at any collector."""
DEFAULT_RATIO = 0.05
"""X-Ray's own share, of what is above one request a second."""
NAME_OF_SECRET = r"^[A-Za-z0-9/_+=.@:-]{1,512}$"  # noqa: S105 - a pattern
HEADER_PATTERN = r"^[a-z][a-z0-9-]{0,63}$"
_LOOPBACK = "127.0.0.1"


class _Tracing(BaseModel):
    """`sample_ratio`: share of the traces that begin here. `parent_based`: a caller's `traceparent` decides
    for its own trace; otherwise the share holds for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_ratio: float = Field(default=DEFAULT_RATIO, ge=0, le=1)
    parent_based: bool = True


class XRayTracing(_Tracing):
    """The OTLP endpoint of X-Ray in the function's own region; requests are signed."""

    kind: Literal["xray"]


class OtlpTracing(_Tracing):
    """Any collector that takes OTLP over HTTP as JSON. `url` is the whole address.

    `secret` is the name or ARN of a secret in Secrets Manager: what the header `secret_header` holds.
    """

    kind: Literal["otlp"]
    url: str = Field(max_length=512)
    secret: str | None = Field(default=None, pattern=NAME_OF_SECRET)
    secret_header: str = Field(default="authorization", pattern=HEADER_PATTERN)

    @field_validator("url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        parts = urllib.parse.urlsplit(url)
        if not parts.hostname or parts.username or parts.query or parts.fragment or not parts.path:
            raise ValueError(f"give a URL like https://collector.example.com{PATH}, without user or query")
        if parts.scheme != "https" and (parts.scheme, parts.hostname) != ("http", _LOOPBACK):
            raise ValueError(f"use https (only {_LOOPBACK} may go without)")
        _ = parts.port  # raises ValueError where it is none
        return url


TracingTarget = Annotated[XRayTracing | OtlpTracing, Field(discriminator="kind")]
