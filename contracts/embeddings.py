"""The OpenAI embeddings protocol, as far as Evergreen speaks it.

The container serves it under the custom attribute `route=/v1/embeddings`, as vLLM's SageMaker images do.
Source: the OpenAI API reference, "Embeddings".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.texts import TextsRequest


class EmbeddingsRequest(TextsRequest):
    """Body of `POST /v1/embeddings`."""

    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = None


class EmbeddingsUsage(BaseModel):
    """Token counts; embeddings have no completion tokens."""

    model_config = ConfigDict(extra="ignore")

    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    """One vector: floats, or base64 of little-endian 32-bit floats."""

    model_config = ConfigDict(extra="ignore")

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(BaseModel):
    """A whole reply, in the order of the inputs."""

    model_config = ConfigDict(extra="ignore")

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage
