"""The OpenAI moderation protocol, as far as Evergreen speaks it: answered by guards, or by a classifier.

Source: the OpenAI API reference, "Moderations".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from contracts.requests import OpenModel, one_or_many, unsupported
from contracts.texts import MOST_TEXTS, Text, TextList, TextsAnswer, TextsRequest

GUARDS = "guards"
"""The model that answers where none is named: this environment's guards."""
GUARD_ALIASES = frozenset(
    {
        GUARDS,
        "omni-moderation-latest",
        "omni-moderation-2024-09-26",
        "text-moderation-latest",
        "text-moderation-stable",
        "text-moderation-007",
    }
)
"""Names by which clients of OpenAI's ask for a moderation: the guards answer to all of them."""

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""OpenAI's, all of them in every result."""


def _text_part(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") not in (None, "text"):
        raise unsupported("guards read text; leave parts of other types out")
    return value


class ModerationPart(OpenModel):
    """A part of an input of several parts, which are judged as one."""

    type: Literal["text"]
    text: Text


def _form(value: Any) -> str | None:
    """Tells the forms of an input apart, so that an error is about what was meant."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "<parts>"
    return one_or_many(value)


Part = Annotated[ModerationPart, BeforeValidator(_text_part)]
Input = Annotated[
    Annotated[Text, Tag("<text>")]
    | Annotated[TextList, Tag("<list>")]
    | Annotated[list[Part], Field(max_length=MOST_TEXTS), Tag("<parts>")],
    Discriminator(
        _form,
        custom_error_type="input_type",
        custom_error_message="Input should be a string, a list of strings or a list of text parts",
    ),
]


class ModerationRequest(TextsRequest):
    """Body of `POST /v1/moderations`: one text, several, or the parts of one."""

    model: str = Field(default=GUARDS, min_length=1, max_length=256)
    input: Input

    @property
    def by_guards(self) -> bool:
        """Whether guards answer to the name, where no model of the catalogue does."""
        return self.model in GUARD_ALIASES

    @property
    def texts(self) -> list[str]:
        """One text for each result."""
        if isinstance(self.input, str):
            return [self.input]
        parts = [part.text for part in self.input if isinstance(part, ModerationPart)]
        return ["\n".join(parts)] if parts else [text for text in self.input if isinstance(text, str)]

    def with_texts(self, texts: Sequence[str]) -> Self:
        """See TextsRequest."""
        return self.model_copy(update={"input": list(texts)})

    def place(self, index: int) -> str:
        """See TextsRequest."""
        return f"input[{index}]" if isinstance(self.input, list) else "input"


class ModerationResult(BaseModel):
    """What was found in one text. Beside OpenAI's categories are those of the guards.

    A category that nothing looks for is false and 0, and its list of input types is empty.
    """

    model_config = ConfigDict(defer_build=True, extra="ignore")

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text", "image"]]]


class Moderation(TextsAnswer):
    """A whole reply, in the order of the texts. Guards use no tokens."""

    id: str
    results: list[ModerationResult]
