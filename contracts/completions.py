"""The OpenAI text-completions protocol (the older one, without roles), as far as Evergreen speaks it.

The container serves it under the custom attribute `route=/v1/completions`, as vLLM's SageMaker images do.
Source: the OpenAI API reference, "Completions".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from contracts.chat import MAX_ANSWERS, MAX_COMPLETION_TOKENS, FinishReason, StreamOptions, Usage
from contracts.requests import IgnoredFields, Stop, stop_strings


def _alone(prompt: Any) -> Any:
    """A list of one prompt, as some clients always send it, is that prompt."""
    return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt


class CompletionRequest(IgnoredFields):
    """Body of `POST /v1/completions`: one prompt."""

    model: str = Field(min_length=1, max_length=256)
    prompt: Annotated[str, Field(min_length=1), BeforeValidator(_alone)]
    max_tokens: Annotated[int, Field(ge=1, le=MAX_COMPLETION_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    stop: Stop | None = None
    seed: int | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    echo: bool | None = None
    logprobs: int | None = None
    best_of: int | None = None
    suffix: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, max_length=256)

    @field_validator("echo", "logprobs", "best_of", "suffix")
    @classmethod
    def _refused(cls, value: object, info: ValidationInfo) -> object:
        neutral = value is None or value is False or (info.field_name == "best_of" and value == 1)
        if not neutral:
            raise ValueError(f"'{info.field_name}' is not supported; leave it out")
        return value

    @property
    def answers(self) -> int:
        """How many answers are asked for."""
        return self.n or 1

    @property
    def stop_strings(self) -> list[str]:
        """`stop` as a list, empty strings left out."""
        return stop_strings(self.stop)

    @property
    def token_limit(self) -> int | None:
        """Most tokens of the answer; None when the caller set no limit."""
        return self.max_tokens


class CompletionChoice(BaseModel):
    """One answer, or its share of a stream chunk."""

    model_config = ConfigDict(extra="ignore")

    index: int = 0
    text: str
    finish_reason: FinishReason | None = None
    logprobs: Any | None = None
    content_filter: str | None = None  # `<guard>:<label>` of a refused answer


class Completion(BaseModel):
    """A whole reply, and equally one chunk of a streamed one."""

    model_config = ConfigDict(extra="ignore")

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
