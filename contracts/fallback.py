"""Where requests go while the endpoint cannot answer: settings write it, the inference function reads it
(variable `FALLBACKS`)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FALLBACK_VARIANT = "fallback"
"""What records, metrics and `x-evergreen-variant` call an answer that another target gave."""


class FallbackTarget(BaseModel):
    """Another endpoint that serves the same protocol, in this or another region."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["endpoint"] = "endpoint"
    endpoint_name: str = Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")
    model_version: str
    region: str | None = None

    @property
    def name(self) -> str:
        """For logs."""
        return self.endpoint_name


class BedrockTarget(BaseModel):
    """A model behind Amazon Bedrock's OpenAI-compatible route, in this or another region."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["bedrock"]
    model_id: str = Field(pattern=r"^[a-z0-9-]+\.[a-zA-Z0-9.:_-]{1,120}$")
    region: str | None = None

    @property
    def name(self) -> str:
        """For logs."""
        return self.model_id

    @property
    def model_version(self) -> str:
        """What records say of its answers."""
        return f"bedrock/{self.model_id}"


Target = FallbackTarget | BedrockTarget
