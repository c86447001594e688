"""Rerank and score: how well texts answer a query, by the shapes of Cohere, Jina and vLLM.

The container serves them under the custom attributes `route=/v1/rerank` and `route=/v1/score`, as vLLM's
SageMaker images do: a cross-encoder reads each pair, an embedding model compares vectors by their cosine.
Sources: the API references of Cohere (rerank v1, v2) and Jina (reranker); vLLM's documentation of its rerank
and score APIs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from contracts.requests import unsupported, without_nulls
from contracts.texts import MOST_TEXTS, Text, Texts, TextsAnswer, TextsRequest, TruncatePromptTokens, as_list


def _text_of(value: Any) -> Any:
    """A document's text: Cohere's clients may send objects."""
    if isinstance(value, dict):
        if "text" not in value:
            raise ValueError("a document that is an object needs the field 'text'")
        return value["text"]
    return value


Document = Annotated[
    Text,
    BeforeValidator(_text_of),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "object",
                    "required": ["text"],
                    "properties": {"text": {"type": "string", "minLength": 1}},
                },
            ]
        }
    ),
]
"""A text, or an object with one; other fields of the object are ignored."""


class PairsRequest(TextsRequest):
    """What requests about pairs of texts have in common."""

    use_activation: bool | None = Field(
        default=None, description="False: a cross-encoder's raw scores. Otherwise as its configuration says."
    )
    truncate_prompt_tokens: TruncatePromptTokens | None = None
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Cut what is longer of a document, before it is put beside the query."
    )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The texts that are scored against each other."""
        raise NotImplementedError

    @property
    def characters(self) -> int:
        """See TextsRequest: a query is read once for each text that it is paired with."""
        return sum(len(one) + len(other) for one, other in self.pairs)


class RerankRequest(PairsRequest):
    """Body of `POST /v1/rerank`."""

    query: Text
    documents: Annotated[list[Document], Field(min_length=1, max_length=MOST_TEXTS)]
    top_n: Annotated[int, Field(ge=0)] | None = Field(default=None, description="0 is all of them.")
    return_documents: bool = Field(default=True, exclude=True)
    rank_fields: list[str] | None = Field(default=None, exclude=True, description="Only ['text'] is taken.")

    @field_validator("rank_fields")
    @classmethod
    def _by_text_alone(cls, value: list[str] | None) -> list[str] | None:
        if value not in (None, ["text"]):
            raise unsupported("a document is ranked by its field 'text' alone; leave it out")
        return value

    @property
    def texts(self) -> list[str]:
        """The query, then the documents."""
        return [self.query, *self.documents]

    def with_texts(self, texts: Sequence[str]) -> Self:
        """See TextsRequest."""
        return self.model_copy(update={"query": texts[0], "documents": list(texts[1:])})

    def place(self, index: int) -> str:
        """See TextsRequest."""
        return f"documents[{index - 1}]" if index else "query"

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The query with each document."""
        return [(self.query, document) for document in self.documents]

    @property
    def count(self) -> int:
        """How many results the answer has."""
        return min(self.top_n or len(self.documents), len(self.documents))


class ScoreRequest(PairsRequest):
    """Body of `POST /v1/score`: one text against each of several, or texts against each other in pairs."""

    text_1: Texts = Field(validation_alias=AliasChoices("text_1", "queries", "data_1"))
    text_2: Texts = Field(validation_alias=AliasChoices("text_2", "documents", "data_2"))

    @model_validator(mode="before")
    @classmethod
    def _one_name_each(cls, value: Any) -> Any:
        value = without_nulls(value)
        for names in (("text_1", "queries", "data_1"), ("text_2", "documents", "data_2")):
            given = [name for name in names if isinstance(value, dict) and name in value]
            if len(given) > 1:
                raise ValueError(f"'{given[0]}' and '{given[1]}' are two names of the same; give one of them")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        first, second = as_list(self.text_1), as_list(self.text_2)
        if len(first) not in (1, len(second)):
            raise ValueError(
                f"text_1 has {len(first)} texts and text_2 has {len(second)}: "
                "give one text in text_1, or as many as in text_2"
            )
        return self

    @property
    def texts(self) -> list[str]:
        """Those of `text_1`, then those of `text_2`."""
        return as_list(self.text_1) + as_list(self.text_2)

    def with_texts(self, texts: Sequence[str]) -> Self:
        """See TextsRequest."""
        first = len(as_list(self.text_1))
        return self.model_copy(
            update={
                "text_1": texts[0] if isinstance(self.text_1, str) else list(texts[:first]),
                "text_2": texts[first] if isinstance(self.text_2, str) else list(texts[first:]),
            }
        )

    def place(self, index: int) -> str:
        """See TextsRequest."""
        first = len(as_list(self.text_1))
        name, given, at = (
            ("text_1", self.text_1, index) if index < first else ("text_2", self.text_2, index - first)
        )
        return name if isinstance(given, str) else f"{name}[{at}]"

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each text of `text_2` with its own of `text_1`, or with the only one."""
        first, second = as_list(self.text_1), as_list(self.text_2)
        return list(zip(first * len(second) if len(first) == 1 else first, second, strict=True))


class _Answer(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="ignore")


class RerankDocument(_Answer):
    """A document, as it was sent."""

    text: str


class RerankResult(_Answer):
    """A document's relevance. `index` is its place in the request."""

    index: int = Field(ge=0)
    relevance_score: float = Field(allow_inf_nan=False)
    document: RerankDocument | None = None


class Reranking(TextsAnswer):
    """A whole reply of `/v1/rerank`, best first."""

    id: str
    results: list[RerankResult]


class Score(_Answer):
    """One pair's score."""

    object: Literal["score"] = "score"
    index: int
    score: float = Field(allow_inf_nan=False)


class ScoreList(TextsAnswer):
    """A whole reply of `/v1/score`, in the order of the pairs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    data: list[Score]
