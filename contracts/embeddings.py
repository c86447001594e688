"""The OpenAI embeddings protocol, as far as Evergreen speaks it.

The container serves it under the custom attribute `route=/v1/embeddings`, as vLLM's SageMaker images do.
Source: the OpenAI API reference, "Embeddings".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.texts import InputRequest, TextsAnswer


class EmbeddingsRequest(InputRequest):
    """Body of `POST /v1/embeddings`."""

    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = None


class Embedding(BaseModel):
    """One vector: floats, or base64 of little-endian 32-bit floats."""

    model_config = ConfigDict(defer_build=True, extra="ignore")

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(TextsAnswer):
    """A whole reply, in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
