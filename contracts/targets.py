"""Where a model runs: a SageMaker endpoint, Amazon Bedrock, or any URL that speaks the OpenAI API."""

from __future__ import annotations

import urllib.parse
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

_LOOPBACK = "127.0.0.1"


class EndpointTarget(BaseModel):
    """A SageMaker endpoint that serves our protocol, in this or another region.

    `component` is the inference component to call. `adapter` is a LoRA adapter of the endpoint's container,
    which loads it when it is asked for. `served_name` is what the container calls the model; left out, it is
    the name that callers use. `streamed` is false where the endpoint gives whole answers only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["endpoint"] = "endpoint"
    endpoint_name: str = Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")
    model_version: str = Field(min_length=1, max_length=128)
    region: str | None = None
    component: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")
    adapter: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    served_name: str | None = Field(default=None, min_length=1, max_length=128)
    streamed: bool = True

    @model_serializer(mode="wrap")
    def _with_its_kind(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Where defaults are left out the kind stays: whoever reads it goes by that.
        return {"kind": self.kind, **write(self)}

    @property
    def name(self) -> str:
        """For logs."""
        return self.endpoint_name

    @property
    def remote_model(self) -> str | None:
        """What the request's `model` becomes; None where it is the name that callers use."""
        return self.adapter or self.served_name


class BedrockTarget(BaseModel):
    """A model behind Amazon Bedrock's OpenAI-compatible route, in this or another region. Knows chat only."""

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

    @property
    def remote_model(self) -> str:
        """What the request's `model` becomes."""
        return self.model_id


class OpenAITarget(BaseModel):
    """A model behind a URL that speaks the OpenAI API.

    `base_url` ends before `/chat/completions`, as SDKs have it: `https://api.example.com/v1`. `secret` is the
    name or ARN of a secret in Secrets Manager that holds the provider's key, alone or as the field `api_key`
    of a JSON object; without it no key is sent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["openai"]
    base_url: str = Field(max_length=512)
    model: str = Field(min_length=1, max_length=256)
    secret: str | None = Field(default=None, pattern=r"^[A-Za-z0-9/_+=.@:-]{1,512}$")

    @field_validator("base_url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        parts = urllib.parse.urlsplit(url)
        if not parts.hostname or parts.username or parts.query or parts.fragment:
            raise ValueError("give a URL like https://api.example.com/v1, without user, query or fragment")
        if parts.scheme != "https" and (parts.scheme, parts.hostname) != ("http", _LOOPBACK):
            raise ValueError(
                f"use https; plain http carries prompts and keys in clear (only {_LOOPBACK} may)"
            )
        _ = parts.port  # raises ValueError where it is none
        return url.rstrip("/")

    @property
    def name(self) -> str:
        """For logs."""
        return f"{urllib.parse.urlsplit(self.base_url).hostname}/{self.model}"

    @property
    def model_version(self) -> str:
        """What records say of its answers."""
        return f"openai/{self.model}"

    @property
    def remote_model(self) -> str:
        """What the request's `model` becomes."""
        return self.model


Target = EndpointTarget | BedrockTarget | OpenAITarget
TargetByKind = Annotated[Target, Field(discriminator="kind")]
