"""Tools and forms of an answer, as OpenAI's chat requests describe them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from contracts import json_schema
from contracts.requests import OpenModel, RequestModel

MAX_TOOLS = 128
"""OpenAI's bound."""
LONGEST_NAME = 64
"""Characters of a message's `name` and of a called function's."""
LONGEST_DESCRIPTION = 16_384

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


def checked_schema(schema: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    """The schema of a function's parameters, as it is. Raises ValueError that says what is wrong with it."""
    if not schema:
        return schema
    named = schema.get("type", "object")
    if named != "object" and not (isinstance(named, list) and "object" in named):
        raise ValueError("the schema of a function's parameters must have the type 'object'")
    (json_schema.check if strict else json_schema.check_size)(schema)
    return schema


class Function(OpenModel):
    """A function that the model may call.

    `parameters` is any JSON Schema of an object; with `strict`, one of the subset that answers are held to
    whole (contracts.json_schema). Without it what an engine cannot hold to is only shown to the model.
    """

    name: ToolName
    description: Annotated[str, Field(max_length=LONGEST_DESCRIPTION)] | None = None
    strict: bool | None = None  # stands before `parameters`, whose check depends on it
    parameters: dict[str, Any] | None = None

    @field_validator("parameters")
    @classmethod
    def _object(cls, schema: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        return checked_schema(schema, strict=bool(info.data.get("strict"))) if schema else schema


class Tool(OpenModel):
    """A tool of the only kind there is."""

    type: Literal["function"]
    function: Function


class FunctionName(OpenModel):
    """Names one function."""

    name: str


class NamedTool(OpenModel):
    """The choice of one function: it must be called."""

    type: Literal["function"]
    function: FunctionName


class AllowedToolNames(OpenModel):
    """The functions of `tools` that may be called, and whether one must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class AllowedTools(OpenModel):
    """The choice of some functions."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedToolNames


def _kind_of_choice(value: Any) -> str | None:
    if isinstance(value, str):
        return "<mode>"
    if isinstance(value, NamedTool | AllowedTools):  # pydantic asks again when it serialises
        return f"<{'named' if isinstance(value, NamedTool) else 'allowed'}>"
    if not isinstance(value, dict):
        return None
    return "<allowed>" if value.get("type") == "allowed_tools" else "<named>"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<mode>")]
    | Annotated[NamedTool, Tag("<named>")]
    | Annotated[AllowedTools, Tag("<allowed>")],
    Discriminator(
        _kind_of_choice,
        custom_error_type="tool_choice_type",
        custom_error_message="Input should be 'none', 'auto', 'required', a function or 'allowed_tools'",
    ),
]
FunctionCallChoice = Annotated[
    Annotated[Literal["none", "auto"], Tag("<mode>")] | Annotated[FunctionName, Tag("<named>")],
    Discriminator(
        lambda value: "<mode>" if isinstance(value, str) else "<named>" if isinstance(value, dict) else None,
        custom_error_type="function_call_type",
        custom_error_message="Input should be 'none', 'auto' or an object with the function's name",
    ),
]


class NamedSchema(RequestModel):
    """The JSON Schema an answer is held to: with `strict` whole, without it as far as the engine can."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ToolName
    description: Annotated[str, Field(max_length=LONGEST_DESCRIPTION)] | None = None
    strict: bool | None = None  # stands before `schema`, whose check depends on it
    schema_: dict[str, Any] = Field(alias="schema")

    @field_validator("schema_")
    @classmethod
    def _supported(cls, schema: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        (json_schema.check if info.data.get("strict") else json_schema.check_size)(schema)
        return schema


class ResponseFormat(RequestModel):
    """The form of an answer: any text, any JSON object, or JSON that keeps to a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("the type 'json_schema', and only that, needs a 'json_schema'")
        return self
