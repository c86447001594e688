"""The OpenAI text-completions protocol (the older one, without roles), as far as Evergreen speaks it.

The container serves it under the custom attribute `route=/v1/completions`, as vLLM's SageMaker images do.
A prompt may be token ids of the served model's own tokenizer. With `echo` and `logprobs` the prompt's own log
probabilities come back: evaluation harnesses score a served model so.
Source: the OpenAI API reference, "Completions".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator

from contracts.chat import MAX_ANSWERS, MAX_COMPLETION_TOKENS, FinishReason, StreamOptions, Usage
from contracts.requests import IgnoredFields, Stop, stop_strings, unsupported

MAX_PROMPTS = 128
MAX_LOGPROBS = 5
"""Likeliest tokens in each place (`logprobs`), OpenAI's bound."""

_Text = Annotated[str, Field(min_length=1)]
_Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


def _kind_of_prompt(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    if not isinstance(value, list):
        return None
    first = value[0] if value else ""
    return "<tokens>" if isinstance(first, int) else "<token lists>" if isinstance(first, list) else "<list>"


Prompt = Annotated[
    Annotated[_Text, Tag("<text>")]
    | Annotated[list[_Text], Field(min_length=1, max_length=MAX_PROMPTS), Tag("<list>")]
    | Annotated[_Tokens, Tag("<tokens>")]
    | Annotated[list[_Tokens], Field(min_length=1, max_length=MAX_PROMPTS), Tag("<token lists>")],
    Discriminator(
        _kind_of_prompt,
        custom_error_type="prompt_type",
        custom_error_message="Input should be a string, a list of strings, token ids or lists of token ids",
    ),
]


class CompletionRequest(IgnoredFields):
    """Body of `POST /v1/completions`: one prompt or several, each continued by itself."""

    model: str = Field(min_length=1, max_length=256)
    prompt: Prompt
    echo: bool | None = None
    max_tokens: Annotated[int, Field(ge=0, le=MAX_COMPLETION_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = Field(
        default=None, exclude=True, description="Only an empty one is taken."
    )
    stop: Stop | None = None
    seed: int | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    best_of: int | None = None
    suffix: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, max_length=256)

    @field_validator("best_of", "suffix", "logit_bias")
    @classmethod
    def _refused(cls, value: object, info: ValidationInfo) -> object:
        instead = {
            "best_of": "ask for several answers with n",
            "suffix": "the model continues a prompt and fills no gap",
            "logit_bias": "no engine here weighs single tokens; leave it out or empty",
        }
        if value and not (info.field_name == "best_of" and value == 1):
            raise unsupported(instead[info.field_name or ""])
        return value

    @field_validator("max_tokens")
    @classmethod
    def _something_to_answer(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value == 0 and not info.data.get("echo"):
            raise ValueError("Input should be greater than or equal to 1 without 'echo'")
        return value

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt by itself."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        numbers = [item for item in self.prompt if isinstance(item, int)]
        return [numbers] if numbers else [item for item in self.prompt if not isinstance(item, int)]

    @property
    def texts(self) -> list[str]:
        """The prompts that are texts."""
        return [prompt for prompt in self.prompts if isinstance(prompt, str)]

    @property
    def answers(self) -> int:
        """How many answers are asked for, to all prompts together."""
        return (self.n or 1) * len(self.prompts)

    @property
    def stop_strings(self) -> list[str]:
        """`stop` as a list, empty strings left out."""
        return stop_strings(self.stop)

    @property
    def token_limit(self) -> int | None:
        """Most tokens of the answer; None when the caller set no limit."""
        return self.max_tokens


class CompletionLogprobs(BaseModel):
    """The log probabilities of a text's tokens, in order, as four lists of the same length.

    A prompt's first token has none. `text_offset`: where each token begins, in characters.
    """

    model_config = ConfigDict(defer_build=True, extra="ignore")

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One answer, or its share of a stream chunk."""

    model_config = ConfigDict(defer_build=True, extra="ignore")

    index: int = 0
    text: str
    finish_reason: FinishReason | None = None
    logprobs: CompletionLogprobs | None = None
    content_filter: str | None = None  # `<guard>:<label>` of a refused answer


class Completion(BaseModel):
    """A whole reply, and equally one chunk of a streamed one."""

    model_config = ConfigDict(defer_build=True, extra="ignore")

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
