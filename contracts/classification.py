"""Text classification in vLLM's shape; OpenAI's API has no such operation.

The container serves it under the custom attribute `route=/classify`, as vLLM's SageMaker images do, or
`route=/v1/classify`. The body that Hugging Face's SageMaker containers take (`{"inputs": …}`) is understood
there too and answered in their shape. Sources: vLLM's documentation of its classification API; the Hugging
Face inference toolkit's documentation, "text-classification".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.requests import RequestModel
from contracts.texts import InputRequest, Texts, TextsAnswer, TruncatePromptTokens, as_list

Normalisation = Literal["softmax", "sigmoid", "none"]


class ClassificationRequest(InputRequest):
    """Body of `POST /v1/classify`."""

    use_activation: bool | None = Field(
        default=None, description="False: the model's raw scores. Otherwise as its configuration says."
    )
    truncate_prompt_tokens: TruncatePromptTokens | None = None


class PipelineParameters(RequestModel):
    """`parameters` of Hugging Face's body; `function_to_apply` is its word for the normalisation."""

    top_k: Annotated[int, Field(ge=1, le=100_000)] | None = None
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

    model_config = ConfigDict(defer_build=True, extra="ignore")

    label: str
    score: float = Field(allow_inf_nan=False)


class Classification(BaseModel):
    """One text's classes: `probs` in the model's order, `label` the likeliest.

    `scores` are the same with their labels, best first; vLLM's container leaves them out.
    """

    model_config = ConfigDict(defer_build=True, extra="ignore")

    index: int
    label: str | None = None
    probs: list[Annotated[float, Field(allow_inf_nan=False)]]
    num_classes: int
    scores: list[LabelScore] | None = None


class ClassificationList(TextsAnswer):
    """A whole reply, in the order of the inputs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    data: list[Classification]
