"""Text classification, as the container serves it under the custom attribute `route=/v1/classify`.

OpenAI's API has no such operation: the envelope follows its embeddings. The body that Hugging Face's
SageMaker containers take (`{"inputs": …}`) is understood too and answered in their shape. Source: the Hugging
Face inference toolkit's documentation, "text-classification".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.embeddings import EmbeddingsUsage
from contracts.requests import RequestModel
from contracts.texts import Texts, TextsRequest, as_list

Normalisation = Literal["softmax", "sigmoid", "none"]


_TopK = Annotated[int, Field(ge=1, le=100_000)] | None


class ClassificationRequest(TextsRequest):
    """Body of a classification. `normalisation` overrides what the model's own configuration asks for."""

    top_k: _TopK = None
    normalisation: Normalisation | None = None


class PipelineParameters(RequestModel):
    """`parameters` of Hugging Face's body; `function_to_apply` is its word for the normalisation."""

    top_k: _TopK = None
    function_to_apply: Normalisation | None = None


class PipelineRequest(RequestModel):
    """Body as Hugging Face's containers take it; it names no model."""

    inputs: Texts
    parameters: PipelineParameters = PipelineParameters()

    @property
    def texts(self) -> list[str]:
        """`inputs` as a list."""
        return as_list(self.inputs)


class LabelScore(BaseModel):
    """A label of the model with its score."""

    model_config = ConfigDict(extra="ignore")

    label: str
    score: float


class Classification(BaseModel):
    """One text's labels, best first; `label` and `score` are the first one's."""

    model_config = ConfigDict(extra="ignore")

    object: Literal["classification"] = "classification"
    index: int
    label: str
    score: float
    scores: list[LabelScore]


class ClassificationList(BaseModel):
    """A whole reply, in the order of the inputs."""

    model_config = ConfigDict(extra="ignore")

    object: Literal["list"] = "list"
    data: list[Classification]
    model: str
    usage: EmbeddingsUsage
