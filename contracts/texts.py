"""One text or several in a request: what embeddings and classifications have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]
TextList = Annotated[list[Text], Field(min_length=1, max_length=2048)]


class TextsRequest(BaseModel):
    """A request about texts, each by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str = Field(min_length=1, max_length=256)
    input: Text | TextList
    user: str | None = Field(default=None, max_length=256)

    @property
    def texts(self) -> list[str]:
        """`input` as a list."""
        return as_list(self.input)


def as_list(given: str | list[str]) -> list[str]:
    """The texts as a list, however many were given."""
    return [given] if isinstance(given, str) else list(given)
