"""One line of a predictions file: what a model was asked, what it answered, and what would be right.

The file is JSON Lines in UTF-8. Whoever runs a model writes it; `evaluation` reads it.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.chat import FinishReason

Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prediction(BaseModel):
    """One item of an evaluation set with one system's answer; optional fields serve metrics that need them.

    `references` are right answers, any of which will do; `label` is the right class of a classification
    item, whose predicted class is `prediction`; `label_scores` are the model's scores by class;
    `token_logprobs` are natural logarithms. Items of one `group` (a user, a conversation) are resampled
    together. `finish_reason` is `length` where the answer was cut at the limit of tokens. `error` says why
    there is no answer: such an item counts as a wrong one. Times are milliseconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str = Field(min_length=1)
    prompt: str = ""
    references: list[str] = Field(default_factory=list)
    prediction: str
    slice: str | None = None
    group: str | None = None
    label: str | None = None
    label_scores: dict[str, Annotated[float, Field(allow_inf_nan=False)]] | None = None
    token_logprobs: list[Annotated[float, Field(le=0, allow_inf_nan=False)]] | None = None
    ttft_ms: Milliseconds | None = None
    duration_ms: Milliseconds | None = None
    completion_tokens: int | None = Field(default=None, ge=0)
    finish_reason: FinishReason | None = None
    error: str | None = None

    @model_validator(mode="after")
    def _times_agree(self) -> Self:
        if self.ttft_ms is not None and self.duration_ms is not None and self.ttft_ms > self.duration_ms:
            raise ValueError(
                f"ttft_ms {self.ttft_ms} is above duration_ms {self.duration_ms}: "
                "the first token cannot come after the last"
            )
        return self
