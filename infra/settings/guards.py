"""Which checks prompts and answers pass. Knows nothing of CDK, files or line numbers."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from contracts.guards import AttackCategory, ContentCategory, GuardSettings, PersonalData
from infra.settings.base import RuleError, SettingsModel, setting

_MOST_BYTES = 2_500
"""Of the 4 kB that all of a function's variables may take together."""


class Toxicity(SettingsModel):
    """Refuses abusive language by a lexicon and rules; a text scores from 0 to 1."""

    prompt_threshold: float = setting(
        "Score from which a prompt is refused.", 0.8, ge=0.1, le=1.0, default=0.8
    )
    answer_threshold: float = setting("Score from which an answer ends.", 0.6, ge=0.1, le=1.0, default=0.6)


class BedrockGuardrailSettings(SettingsModel):
    """A guardrail made in Amazon Bedrock, in the environment's account and region."""

    guardrail_id: str = setting("The guardrail's id.", "gr1abc2def", pattern=r"^[a-z0-9]{1,64}$")
    version: str = setting("A published version, in quotes.", "1", pattern=r"^(DRAFT|[1-9][0-9]{0,7})$")


class BedrockCheckSettings(SettingsModel):
    """Amazon Bedrock's checks that need no guardrail; each list that is left out is not looked for.

    The service offers them in some regions only.
    """

    content: list[ContentCategory] = setting("What is refused.", ["HATE", "INSULTS"], default=[])
    attacks: list[AttackCategory] = setting(
        "Which attacks prompts are refused for.", ["JAILBREAK"], default=[]
    )
    personal_data: list[PersonalData] = setting(
        "What is masked before the model sees it and put back into the answer.",
        ["NAME", "ADDRESS"],
        default=[],
    )
    severity: float = setting("Score from which a text is refused.", 0.5, ge=0.1, le=1.0, default=0.5)
    confidence: float = setting("Score from which personal data is masked.", 0.5, ge=0.1, le=1.0, default=0.5)

    @model_validator(mode="after")
    def _looks_for_something(self) -> Self:
        if not (self.content or self.attacks or self.personal_data):
            raise RuleError(
                "content",
                what="Nothing is named that these checks are to look for.",
                why="Amazon Bedrock refuses a call without any.",
                change="categories, or name `attacks` or `personal_data`",
                example=["HATE", "INSULTS"],
            )
        return self


class GuardrailSettings(SettingsModel):
    """Checks of prompts and answers; each is off unless set."""

    mask_pii: bool = setting(
        "Mask personal data before the model sees it, and put it back into the answer.", True, default=False
    )
    block_injection: bool = setting(
        "Refuse the usual attempts to override instructions.", True, default=False
    )
    denied_topics: dict[str, list[str]] = setting(
        "Topics refused, each with the phrases that give it away (3 to 200 characters).",
        {"legal_advice": ["sue my landlord"]},
        default={},
    )
    toxicity: Toxicity | None = setting("Refuse abusive language.", {"prompt_threshold": 0.8}, default=None)
    bedrock: BedrockGuardrailSettings | None = setting(
        "Ask a guardrail made in Amazon Bedrock.",
        {"guardrail_id": "gr1abc2def", "version": "1"},
        default=None,
    )
    bedrock_checks: BedrockCheckSettings | None = setting(
        "Ask Amazon Bedrock's checks that need no guardrail.",
        {"content": ["HATE", "INSULTS"], "attacks": ["JAILBREAK"]},
        default=None,
    )
    fail_open: bool = setting(
        "Let requests pass while a guard fails; by default they get 503.", False, default=False
    )

    def for_functions(self) -> GuardSettings | None:
        """As the functions read it; None where no check is on."""
        wanted = GuardSettings.model_validate(self.model_dump())
        return None if wanted == GuardSettings(fail_open=self.fail_open) else wanted

    @model_validator(mode="after")
    def _phrases_can_be_found(self) -> Self:
        for topic, phrases in self.denied_topics.items():
            for phrase in phrases:
                if not 3 <= len(phrase) <= 200:
                    raise RuleError(
                        "denied_topics",
                        topic,
                        what=f"'{phrase}' has {len(phrase)} characters.",
                        why="A phrase needs at least 3 to mean anything, and at most 200.",
                        change="phrases of 3 to 200 characters",
                        example=["sue my landlord"],
                    )
        return self

    @model_validator(mode="after")
    def _fit_into_a_variable(self) -> Self:
        wanted = self.for_functions()
        size = 0 if wanted is None else len(wanted.model_dump_json(exclude_defaults=True).encode())
        if size > _MOST_BYTES:
            raise RuleError(
                "denied_topics",
                what=f"The guards take {size} bytes of a function's variables.",
                why=f"Lambda has room for about {_MOST_BYTES} of them.",
                change="fewer or shorter phrases; a long list belongs into a guardrail in Amazon Bedrock",
                example={"legal_advice": ["sue my landlord"]},
            )
        return self
