"""Anthropic's Messages protocol, as far as Evergreen speaks it: requests as they are taken.

A request becomes a chat (`lambdas.pipeline.messages.request`), so what a chat cannot say is refused here, in
this protocol's names. Replies stand in contracts.message_replies.
Source: Anthropic's API reference, "Messages", and the types of its clients.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from contracts import json_schema
from contracts.chat import MAX_COMPLETION_TOKENS
from contracts.requests import OpenModel, RequestModel, ignored, one_or_many, unsupported
from contracts.tools import LONGEST_DESCRIPTION, LONGEST_NAME, MAX_TOOLS, ToolName, checked_schema

MAX_STOP_SEQUENCES = 4
"""As many as a chat has."""

_REFUSED = {
    "top_k": "sampling is set by temperature and top_p",
    "mcp_servers": "the model calls no servers; offer their tools in 'tools'",
    "container": "the model has no containers",
    "fallbacks": "fallbacks are the operator's setting",
    "inference_geo": "the model runs where it is deployed",
}
_KEPT_EDITS = {"clear_thinking_20251015"}
"""Edits of the context that change nothing here, where thinking is never read again."""
_BLOCKS = {
    "text": "text",
    "tool_use": "tool_use",
    "tool_result": "tool_result",
    "thinking": "thinking",
    "redacted_thinking": "thinking",
}


def _refused(name: str) -> Any:
    return Field(default=None, exclude=True, description=f"Not supported: {_REFUSED[name]}.")


class TextBlock(OpenModel):
    """A piece of text."""

    type: Literal["text"]
    text: str


class ThinkingBlock(OpenModel):
    """Notes of a model that reasons, put back into a conversation: no model here reads them again."""

    type: Literal["thinking", "redacted_thinking"]


class ToolUseBlock(OpenModel):
    """A call that the model made; `input` is what it called the tool with."""

    type: Literal["tool_use"]
    id: str = Field(min_length=1, max_length=128)
    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    input: dict[str, Any]


def _known(value: Any) -> Any:
    return _of(value, _BLOCKS)


def _only_text(value: Any) -> Any:
    return _of(value, {"text"})


def _of(value: Any, kinds: Collection[str]) -> Any:
    """The block, where it is of a kind that is read."""
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind not in kinds:
        raise unsupported(f"this model reads text only, no '{kind[:64]}'")
    return value


def _tag(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{_BLOCKS[kind]}>" if isinstance(kind, str) and kind in _BLOCKS else None


_NO_CONTENT: dict[str, Any] = {
    "custom_error_type": "content_type",
    "custom_error_message": "Input should be a string or a list of content blocks",
}
Texts = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[Annotated[TextBlock, BeforeValidator(_only_text)]], Tag("<list>")],
    Discriminator(one_or_many, **_NO_CONTENT),
]


class ToolResultBlock(OpenModel):
    """What a tool gave back; `is_error`: that it failed."""

    type: Literal["tool_result"]
    tool_use_id: str = Field(min_length=1, max_length=128)
    content: Texts | None = None
    is_error: bool | None = None


Block = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[ThinkingBlock, Tag("<thinking>")]
    | Annotated[ToolUseBlock, Tag("<tool_use>")]
    | Annotated[ToolResultBlock, Tag("<tool_result>")],
    Discriminator(
        _tag,
        custom_error_type="block_type",
        custom_error_message="Input should be a content block with its 'type'",
    ),
    BeforeValidator(_known),
]
Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[Block], Tag("<list>")],
    Discriminator(one_or_many, **_NO_CONTENT),
]


class MessageTurn(OpenModel):
    """One turn of the conversation. Results of tools are the user's, their calls the assistant's."""

    role: Literal["user", "assistant", "system"]
    content: Content

    @model_validator(mode="after")
    def _blocks_are_the_roles_own(self) -> MessageTurn:
        for block in self.blocks:
            if isinstance(block, ToolUseBlock) and self.role != "assistant":
                raise ValueError(f"a message of role '{self.role}' has no 'tool_use'")
            if isinstance(block, ToolResultBlock) and self.role != "user":
                raise ValueError(f"a message of role '{self.role}' has no 'tool_result'")
        return self

    @property
    def blocks(self) -> list[TextBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock]:
        """The content as blocks."""
        if isinstance(self.content, str):
            return [TextBlock(type="text", text=self.content)]
        return list(self.content)


def _custom(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind != "custom":
        raise unsupported(f"there are no '{kind[:64]}' tools; offer one by its name and input_schema")
    return value


class MessageTool(OpenModel):
    """A tool that the caller runs. `input_schema` is any JSON Schema of an object; see contracts.tools."""

    type: Literal["custom"] | None = None
    name: ToolName
    description: Annotated[str, Field(max_length=LONGEST_DESCRIPTION)] | None = None
    strict: bool | None = None  # stands before `input_schema`, whose check depends on it
    input_schema: dict[str, Any]

    @field_validator("input_schema")
    @classmethod
    def _of_an_object(cls, schema: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return checked_schema(schema, strict=bool(info.data.get("strict")))


class MessageToolChoice(OpenModel):
    """Whether tools may or must be called; `tool` names the one."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _named(self) -> MessageToolChoice:
        if (self.type == "tool") != (self.name is not None):
            raise ValueError("the type 'tool', and only that, needs a 'name'")
        return self


class MessageFormat(OpenModel):
    """The JSON Schema that an answer is held to, as far as the engine can."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")

    @field_validator("schema_")
    @classmethod
    def _checked(cls, schema: dict[str, Any]) -> dict[str, Any]:
        json_schema.check_size(schema)
        return schema


class MessageOutput(OpenModel):
    """How an answer is written."""

    format: MessageFormat | None = None
    effort: str | None = ignored("the model does not reason apart from its answer")


class MessageMetadata(OpenModel):
    """About the request; `user_id` is what a chat has in `user`."""

    user_id: str | None = Field(default=None, max_length=256)


class MessagesRequest(RequestModel):
    """Body of `POST /v1/messages`."""

    model: str = Field(min_length=1, max_length=256)
    max_tokens: Annotated[int, Field(ge=1, le=MAX_COMPLETION_TOKENS)]
    messages: list[MessageTurn] = Field(min_length=1, max_length=2048)
    system: Texts | None = None
    stop_sequences: Annotated[list[str], Field(max_length=MAX_STOP_SEQUENCES)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    tools: (
        Annotated[list[Annotated[MessageTool, BeforeValidator(_custom)]], Field(max_length=MAX_TOOLS)] | None
    ) = None
    tool_choice: MessageToolChoice | None = None
    output_config: MessageOutput | None = None
    output_format: MessageFormat | None = Field(
        default=None, description="The older place of `output_config.format`."
    )
    metadata: MessageMetadata | None = None
    stream: bool = False
    cache_control: dict[str, Any] | None = ignored("prompts with a common beginning share their cache anyway")
    thinking: dict[str, Any] | None = ignored("the model does not reason apart from its answer")
    service_tier: str | None = ignored("there is one tier")
    speed: str | None = ignored("as service_tier")
    diagnostics: dict[str, Any] | None = ignored("the cache is not diagnosed")
    context_management: dict[str, Any] | None = ignored("only edits of thinking are taken")
    top_k: Any = _refused("top_k")
    mcp_servers: Any = _refused("mcp_servers")
    container: Any = _refused("container")
    fallbacks: Any = _refused("fallbacks")
    inference_geo: Any = _refused("inference_geo")

    @field_validator(*_REFUSED)
    @classmethod
    def _not_done_here(cls, value: Any, info: ValidationInfo) -> Any:
        if value not in (None, []):
            raise unsupported(_REFUSED[str(info.field_name)])
        return None

    @field_validator("context_management")
    @classmethod
    def _changes_nothing(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        edits = (value or {}).get("edits") or []
        kinds = {str(edit.get("type")) for edit in edits if isinstance(edit, dict)}
        if not isinstance(edits, list) or kinds - _KEPT_EDITS:
            raise unsupported("the conversation is read as it is sent; shorten it yourself")
        return value

    @field_validator("messages")
    @classmethod
    def _ends_with_a_question(cls, turns: list[MessageTurn]) -> list[MessageTurn]:
        if turns[-1].role == "assistant":
            raise ValueError("the last message must not be the assistant's: its answer is not continued")
        return turns

    @field_validator("messages")
    @classmethod
    def _results_have_calls(cls, turns: list[MessageTurn]) -> list[MessageTurn]:
        """A chat template has no words for the result of a call that nobody made."""
        called: set[str] = set()
        for number, block in ((i, block) for i, turn in enumerate(turns) for block in turn.blocks):
            if isinstance(block, ToolUseBlock):
                called.add(block.id)
            elif isinstance(block, ToolResultBlock) and block.tool_use_id not in called:
                raise ValueError(f"message {number} has the result of a call that no earlier message made")
        return turns

    @field_validator("tools")
    @classmethod
    def _names_differ(cls, tools: list[MessageTool] | None) -> list[MessageTool] | None:
        names = [tool.name for tool in tools or []]
        if len(set(names)) < len(names):
            raise ValueError("two tools have the same name")
        return tools

    @field_validator("tool_choice")
    @classmethod
    def _known_tool(cls, choice: MessageToolChoice | None, info: ValidationInfo) -> MessageToolChoice | None:
        names = {tool.name for tool in info.data.get("tools") or []}
        if choice is not None and choice.type in ("any", "tool") and not names:
            raise ValueError("needs 'tools' to choose from")
        if choice is not None and choice.name is not None and choice.name not in names:
            raise ValueError(f"there is no tool '{choice.name[:64]}' among 'tools'")
        return choice

    @property
    def format(self) -> MessageFormat | None:
        """The form of the answer, wherever it was asked for."""
        return (self.output_config and self.output_config.format) or self.output_format
