"""The turns of a conversation, as OpenAI's chat requests hold them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from contracts.requests import OpenModel, one_or_many, unsupported, without_nulls
from contracts.tools import LONGEST_NAME, MAX_TOOLS

_NOT_READ = {"thinking", "redacted_thinking", "reasoning"}
"""Kinds of parts by which an answer of a reasoning model comes back: notes that no model reads again."""


class TextPart(OpenModel):
    """One text piece of a message's content. A refusal that is put back is one too."""

    type: Literal["text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        kind = value.get("type")
        if kind == "refusal":
            return {"type": "text", "text": value.get("refusal")}
        if isinstance(kind, str) and kind in _NOT_READ:
            return {"type": "text", "text": ""}
        if isinstance(kind, str) and kind != "text":
            raise unsupported(f"this model reads text only, no '{kind[:64]}'")
        return without_nulls(value)


class ImageSource(OpenModel):
    """An image: its bytes in a `data:` URL, or where a hosted model is to fetch it."""

    url: str = Field(pattern=r"^(data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+=*|https://[^\s]+)$")
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(OpenModel):
    """One image of a message's content. Taken only where the model declares that it reads images."""

    type: Literal["image_url"]
    image_url: ImageSource


def _part(value: Any) -> str:
    """Tells the kinds of parts apart; what is neither is refused as a text."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "<image>" if kind == "image_url" else "<part>"


Part = Annotated[
    Annotated[TextPart, Tag("<part>")] | Annotated[ImagePart, Tag("<image>")], Discriminator(_part)
]


class CalledFunction(OpenModel):
    """A function the model wants called; `arguments` is the JSON text it wrote."""

    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    arguments: str


class ToolCall(OpenModel):
    """One call of a tool, in an answer and in the conversation that follows it."""

    id: str = Field(min_length=1, max_length=128)
    type: Literal["function"] = "function"
    function: CalledFunction


Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[Part], Tag("<list>")],
    Discriminator(
        one_or_many,
        custom_error_type="content_type",
        custom_error_message="Input should be a string or a list of content parts",
    ),
]


class Message(OpenModel):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = Field(default=None, max_length=LONGEST_NAME)
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_call_id: str | None = Field(default=None, max_length=128)

    @model_validator(mode="after")
    def _has_content(self) -> Message:
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a message of role '{self.role}' needs content")
        if self.tool_calls is not None and self.role != "assistant":
            raise ValueError(f"a message of role '{self.role}' has no tool_calls")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a message of role 'tool', and only that, needs a tool_call_id")
        if self.role != "user" and self.images:
            raise ValueError(f"a message of role '{self.role}' has no images")
        return self

    @property
    def images(self) -> list[ImagePart]:
        """The images of the content, in order."""
        if self.content is None or isinstance(self.content, str):
            return []
        return [part for part in self.content if isinstance(part, ImagePart)]

    @property
    def text(self) -> str:
        """The content as one string; its texts are joined in order."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))
