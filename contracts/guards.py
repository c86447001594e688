"""Which checks prompts and answers pass, written by settings, read by the inference function (`GUARDS`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from contracts.scripts import UNSPACED

_SHORTEST = 3


def _says_enough(phrase: str) -> str:
    """Two Chinese characters are a word, two Latin letters are in every other one."""
    if len(phrase.strip()) < _SHORTEST - bool(UNSPACED.search(phrase)):
        raise ValueError(
            f"a phrase has at least {_SHORTEST} characters, or 2 where words have no blanks between"
        )
    return phrase


_Phrase = Annotated[str, Field(min_length=2, max_length=200), AfterValidator(_says_enough)]

ContentCategory = Literal["VIOLENCE", "HATE", "SEXUAL", "MISCONDUCT", "INSULTS"]
AttackCategory = Literal["JAILBREAK", "PROMPT_INJECTION", "PROMPT_LEAKAGE"]
PersonalData = Literal[
    "ADDRESS",
    "AGE",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "CA_HEALTH_NUMBER",
    "CA_SOCIAL_INSURANCE_NUMBER",
    "CREDIT_DEBIT_CARD_CVV",
    "CREDIT_DEBIT_CARD_EXPIRY",
    "CREDIT_DEBIT_CARD_NUMBER",
    "DRIVER_ID",
    "EMAIL",
    "INTERNATIONAL_BANK_ACCOUNT_NUMBER",
    "IP_ADDRESS",
    "LICENSE_PLATE",
    "MAC_ADDRESS",
    "NAME",
    "PASSWORD",
    "PHONE",
    "PIN",
    "SWIFT_CODE",
    "UK_NATIONAL_HEALTH_SERVICE_NUMBER",
    "UK_NATIONAL_INSURANCE_NUMBER",
    "UK_UNIQUE_TAXPAYER_REFERENCE_NUMBER",
    "URL",
    "USERNAME",
    "US_BANK_ACCOUNT_NUMBER",
    "US_BANK_ROUTING_NUMBER",
    "US_INDIVIDUAL_TAX_IDENTIFICATION_NUMBER",
    "US_PASSPORT_NUMBER",
    "US_SOCIAL_SECURITY_NUMBER",
    "VEHICLE_IDENTIFICATION_NUMBER",
]


class BedrockSettings(BaseModel):
    """A guardrail made in Amazon Bedrock, by its id and a published version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    guardrail_id: str = Field(pattern=r"^[a-z0-9]{1,64}$")
    version: str = Field(pattern=r"^(DRAFT|[1-9][0-9]{0,7})$")


class GuardrailChecks(BaseModel):
    """Amazon Bedrock's checks that take no guardrail: what they look for, and from which score it counts.

    Content and attacks are refused from `severity` on, personal data is masked from `confidence` on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    content: list[ContentCategory] = []
    attacks: list[AttackCategory] = []
    personal_data: list[PersonalData] = []
    severity: float = Field(default=0.5, gt=0, le=1)
    confidence: float = Field(default=0.5, gt=0, le=1)


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
    bedrock_checks: GuardrailChecks | None = None
    fail_open: bool = False
