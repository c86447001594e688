"""Which checks prompts and answers pass, as settings write it and the front door reads it (`GUARDS`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Phrase = Annotated[str, Field(min_length=3, max_length=200)]


class BedrockSettings(BaseModel):
    """A guardrail made in Amazon Bedrock, by its id and a published version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    guardrail_id: str = Field(pattern=r"^[a-z0-9]{1,64}$")
    version: str = Field(pattern=r"^(DRAFT|[1-9][0-9]{0,7})$")


class ToxicitySettings(BaseModel):
    """From which score (0 to 1) abusive language is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_threshold: float = Field(default=0.8, gt=0, le=1)
    answer_threshold: float = Field(default=0.6, gt=0, le=1)


class GuardSettings(BaseModel):
    """Everything is off unless set. A guard that fails lets requests pass only where `fail_open` is set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask_pii: bool = False
    block_injection: bool = False
    denied_topics: dict[str, list[_Phrase]] = Field(default_factory=dict)
    toxicity: ToxicitySettings | None = None
    bedrock: BedrockSettings | None = None
    fail_open: bool = False
