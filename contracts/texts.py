"""One text or several in a request: what embeddings, classifications, scores and rankings have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from contracts.requests import RequestModel, one_or_many, unsupported

MOST_TEXTS = 2048
Text = Annotated[str, Field(min_length=1)]
TextList = Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]


def _no_tokens(value: Any) -> Any:
    """Token ids are refused: made by the client's own tokenizer, they mean other words to this model."""
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, list) or (isinstance(first, int) and not isinstance(first, bool)):
        raise unsupported(
            "send text instead of token ids, which are those of another model's tokenizer "
            "(LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)"
        )
    return value


Texts = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[TextList, Tag("<list>")],
    Discriminator(
        one_or_many,
        custom_error_type="input_type",
        custom_error_message="Input should be a string or a list of strings",
    ),
    BeforeValidator(_no_tokens),
]
"""One text or up to 2,048; told apart beforehand, so that an error is about what was meant."""

TruncatePromptTokens = Annotated[
    int,
    Field(
        ge=-1, description="Cut what is longer to so many tokens, -1: to what the model takes. Unset: 400."
    ),
]
"""vLLM's name for what is cut at the end; without it a text that is too long is refused."""


class TextsRequest(RequestModel):
    """A request about texts, answered by one body. Guards read and replace `texts`."""

    model: str = Field(min_length=1, max_length=256)
    user: str | None = Field(default=None, max_length=256)

    @property
    def texts(self) -> list[str]:
        """Every text in it, in an order of its own."""
        raise NotImplementedError

    def with_texts(self, texts: Sequence[str]) -> Self:
        """The same request with other texts in the places of `texts`."""
        raise NotImplementedError

    def place(self, index: int) -> str:
        """The parameter that holds `texts[index]`."""
        raise NotImplementedError

    @property
    def characters(self) -> int:
        """How many characters the model reads."""
        return sum(map(len, self.texts))


class InputRequest(TextsRequest):
    """A request about texts in `input`, each by itself."""

    input: Texts

    @property
    def texts(self) -> list[str]:
        """`input` as a list."""
        return as_list(self.input)

    def with_texts(self, texts: Sequence[str]) -> Self:
        """See TextsRequest."""
        return self.model_copy(update={"input": texts[0] if isinstance(self.input, str) else list(texts)})

    def place(self, index: int) -> str:
        """See TextsRequest."""
        return "input" if isinstance(self.input, str) else f"input[{index}]"


class TextsUsage(BaseModel):
    """Token counts of an answer that is no text."""

    model_config = ConfigDict(defer_build=True, extra="ignore")

    prompt_tokens: int
    total_tokens: int


class TextsAnswer(BaseModel):
    """A whole reply to a `TextsRequest`."""

    model_config = ConfigDict(defer_build=True, extra="ignore")

    model: str
    usage: TextsUsage


def as_list(given: str | list[str]) -> list[str]:
    """The texts as a list, however many were given."""
    return [given] if isinstance(given, str) else list(given)
