"""One text or several in a request: what embeddings and classifications have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag

from contracts.requests import RequestModel, one_or_many, unsupported

Text = Annotated[str, Field(min_length=1)]
TextList = Annotated[list[Text], Field(min_length=1, max_length=2048)]


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


class TextsRequest(RequestModel):
    """A request about texts, each by itself."""

    model: str = Field(min_length=1, max_length=256)
    input: Texts
    user: str | None = Field(default=None, max_length=256)

    @property
    def texts(self) -> list[str]:
        """`input` as a list."""
        return as_list(self.input)


def as_list(given: str | list[str]) -> list[str]:
    """The texts as a list, however many were given."""
    return [given] if isinstance(given, str) else list(given)
