"""Where requests go while the endpoint cannot answer. Knows nothing of CDK, files or line numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infra.settings.base import SettingsModel, setting
from infra.settings.texts import Region

BEDROCK_ID_PATTERN = r"^[a-z0-9-]+\.[a-zA-Z0-9.:_-]{1,120}$"


class EndpointFallback(SettingsModel):
    """Another SageMaker endpoint of this account that serves the same protocol."""

    kind: Literal["endpoint"] = setting("Which kind of target.", "endpoint")
    endpoint_name: str = setting(
        "The endpoint's name.", "evergreen-small", pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$"
    )
    model_version: str = setting("What records say of its answers.", "small-1", min_length=1, max_length=128)
    region: Region | None = setting("Its region; left out, the environment's.", "us-west-2", default=None)


class BedrockFallback(SettingsModel):
    """A model in Amazon Bedrock that speaks the OpenAI protocol; it answers chat, and nothing else."""

    kind: Literal["bedrock"] = setting("Which kind of target.", "bedrock")
    model_id: str = setting(
        "The model's id in Bedrock.",
        "openai.gpt-oss-20b-1:0",
        pattern=BEDROCK_ID_PATTERN,
    )
    region: Region | None = setting("Its region; left out, the environment's.", "us-west-2", default=None)


Fallback = Annotated[EndpointFallback | BedrockFallback, Field(discriminator="kind")]
