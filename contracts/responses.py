"""OpenAI's Responses protocol: what callers of `POST /v1/responses` send.

A conversation is a list of items here: messages, calls of functions and what came of them. The model knows
chats only; lambdas.pipeline.responses makes one of the other. What is ignored and what is refused follows
contracts.requests. Source: the OpenAI API reference, "Responses".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from contracts.chat import MAX_COMPLETION_TOKENS, MAX_TOP_LOGPROBS
from contracts.jobs import Metadata
from contracts.messages import CalledFunction
from contracts.requests import (
    IgnoredFields,
    OpenModel,
    RequestModel,
    ignored,
    one_or_many,
    unsupported,
    without_nulls,
)
from contracts.tools import MAX_TOOLS, Function, FunctionName, NamedSchema

INCLUDE_LOGPROBS = "message.output_text.logprobs"
MAX_ITEMS = 2048
LONGEST_ID = 128

_OWN_TOOLS = "this API runs no tools of its own, only those of the type 'function' are offered to the model"


class InputPart(OpenModel):
    """One text piece of a message, or of what a function gave. A refusal that is put back is one too."""

    type: Literal["input_text", "output_text", "text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        kind = value.get("type")
        if kind == "refusal":
            return {"type": "output_text", "text": value.get("refusal")}
        if isinstance(kind, str) and kind not in ("input_text", "output_text", "text"):
            raise unsupported(f"this model reads text only, no '{kind[:64]}'")
        return without_nulls(value)


InputContent = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[InputPart], Tag("<list>")],
    Discriminator(
        one_or_many,
        custom_error_type="content_type",
        custom_error_message="Input should be a string or a list of content parts",
    ),
]


def text_of(content: str | list[InputPart]) -> str:
    """A content as one string; parts are joined in order."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


class InputMessage(OpenModel):
    """One turn of the conversation, of a caller's or as it stood in an earlier answer's output."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: InputContent


class InputCall(CalledFunction):
    """A call that the model has asked for; `call_id` is what its result names."""

    type: Literal["function_call"]
    call_id: str = Field(min_length=1, max_length=LONGEST_ID)


class InputCallOutput(OpenModel):
    """What came of a call."""

    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1, max_length=LONGEST_ID)
    output: InputContent


class ItemReference(OpenModel):
    """Stands for an item of an earlier answer's output."""

    type: Literal["item_reference"] = "item_reference"
    id: str = Field(min_length=1, max_length=LONGEST_ID)


class InputReasoning(OpenModel):
    """Notes of a reasoning model in an earlier answer: no model reads them again."""

    type: Literal["reasoning"]


class OtherItem(OpenModel):
    """An item that only another server's tools bring about."""

    type: str

    @model_validator(mode="before")
    @classmethod
    def _refused(cls, value: Any) -> Any:
        raise unsupported(f"{_OWN_TOOLS}; there are no items of the type '{str(value.get('type'))[:64]}'")


_ITEMS = {
    "message": "<message>",
    "function_call": "<call>",
    "function_call_output": "<output>",
    "item_reference": "<reference>",
    "reasoning": "<reasoning>",
}


def _kind_of_item(value: Any) -> str | None:
    """`type` may be left out of messages and of references."""
    if not isinstance(value, dict):
        return None
    kind = value.get("type")
    if kind is None:
        return "<message>" if "role" in value else "<reference>" if "id" in value else None
    return _ITEMS.get(kind, "<other>") if isinstance(kind, str) else None


InputItem = Annotated[
    Annotated[InputMessage, Tag("<message>")]
    | Annotated[InputCall, Tag("<call>")]
    | Annotated[InputCallOutput, Tag("<output>")]
    | Annotated[ItemReference, Tag("<reference>")]
    | Annotated[InputReasoning, Tag("<reasoning>")]
    | Annotated[SkipJsonSchema[OtherItem], Tag("<other>")],
    Discriminator(
        _kind_of_item,
        custom_error_type="item_type",
        custom_error_message="Input should be an item: a message, a function_call, its output or a reference",
    ),
]
ResponsesInput = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[InputItem], Field(min_length=1, max_length=MAX_ITEMS), Tag("<list>")],
    Discriminator(
        one_or_many,
        custom_error_type="input_type",
        custom_error_message="Input should be a string or a list of items",
    ),
]


class FunctionTool(Function):
    """A function that the model may call; without `strict` its parameters are any JSON Schema."""

    type: Literal["function"]

    @model_validator(mode="before")
    @classmethod
    def _no_other_kind(cls, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise unsupported(f"{_OWN_TOOLS}, no '{kind[:64]}'")
        return value


class ChosenFunction(FunctionName):
    """The choice of one function: it must be called."""

    type: Literal["function"]

    @model_validator(mode="before")
    @classmethod
    def _no_other_kind(cls, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise unsupported(f"{_OWN_TOOLS}, no '{kind[:64]}'")
        return value


class AllowedFunctions(OpenModel):
    """The functions of `tools` that may be called, and whether one must be."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[ChosenFunction], Field(min_length=1, max_length=MAX_TOOLS)]


def _kind_of_choice(value: Any) -> str | None:
    if isinstance(value, str):
        return "<mode>"
    if isinstance(value, ChosenFunction | AllowedFunctions):  # pydantic asks again when it serialises
        return "<allowed>" if isinstance(value, AllowedFunctions) else "<named>"
    if not isinstance(value, dict):
        return None
    return "<allowed>" if value.get("type") == "allowed_tools" else "<named>"


ResponsesToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<mode>")]
    | Annotated[ChosenFunction, Tag("<named>")]
    | Annotated[AllowedFunctions, Tag("<allowed>")],
    Discriminator(
        _kind_of_choice,
        custom_error_type="tool_choice_type",
        custom_error_message="Input should be 'none', 'auto', 'required', a function or 'allowed_tools'",
    ),
]


class PlainFormat(RequestModel):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(NamedSchema):
    """JSON that keeps to a schema."""

    type: Literal["json_schema"]


TextFormat = Annotated[
    Annotated[PlainFormat, Tag("<plain>")] | Annotated[SchemaFormat, Tag("<schema>")],
    Discriminator(
        lambda value: (
            "<schema>"
            if isinstance(value, SchemaFormat)
            or (isinstance(value, dict) and value.get("type") == "json_schema")
            else "<plain>"
        )
    ),
]


class TextOptions(RequestModel):
    """The form of the answer's text."""

    format: TextFormat | None = None
    verbosity: str | None = ignored("the model has no such control")


class ResponsesStreamOptions(RequestModel):
    """Options of a streamed answer; its usage is always told."""

    include_obfuscation: bool | None = ignored("events carry no padding")


class ResponsesRequest(IgnoredFields):
    """Body of `POST /v1/responses`.

    `store`: output is kept for an hour, so that item references and `previous_response_id` resolve, unless it
    is false.
    """

    model: str = Field(min_length=1, max_length=256)
    input: ResponsesInput
    instructions: str | None = None
    previous_response_id: str | None = Field(default=None, min_length=1, max_length=LONGEST_ID)
    store: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_COMPLETION_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    include: Annotated[list[str], Field(max_length=32)] | None = Field(
        default=None, description=f"'{INCLUDE_LOGPROBS}' adds log probabilities; the others are ignored."
    )
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ResponsesToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    stream: bool = False
    stream_options: ResponsesStreamOptions | None = None
    user: str | None = Field(default=None, max_length=256)
    metadata: Metadata | None = None
    truncation: str | None = Field(default=None, exclude=True, description="Only 'disabled' is taken.")
    background: bool | None = Field(default=None, exclude=True, description="Only false is taken.")
    conversation: Any = Field(default=None, exclude=True, description="Not supported.")
    prompt: Any = Field(default=None, exclude=True, description="Not supported.")
    context_management: Any = Field(default=None, exclude=True, description="Not supported.")
    reasoning: dict[str, Any] | None = ignored("the model does not reason apart from its answer")
    max_tool_calls: int | None = ignored("it bounds the tools of the server, which has none")

    @field_validator("truncation")
    @classmethod
    def _whole(cls, value: str | None) -> str | None:
        if value != "disabled":
            raise unsupported("nothing of the input is dropped; leave older items out yourself")
        return value

    @field_validator("background")
    @classmethod
    def _in_front(cls, value: bool | None) -> bool | None:
        if value:
            raise unsupported("hand the request in as a job (POST /v1/jobs) or as a batch instead")
        return value

    @field_validator("conversation", "prompt", "context_management")
    @classmethod
    def _not_here(cls, value: Any, info: ValidationInfo) -> Any:
        instead = {
            "conversation": "send the conversation as input, or use previous_response_id",
            "prompt": "there are no prompt templates here; use instructions and input",
            "context_management": "nothing of the input is dropped or summed up",
        }
        raise unsupported(instead[str(info.field_name)])

    @field_validator("tools")
    @classmethod
    def _names_differ(cls, tools: list[FunctionTool] | None) -> list[FunctionTool] | None:
        names = [tool.name for tool in tools or []]
        if len(set(names)) < len(names):
            raise ValueError("two functions have the same name")
        return tools

    @field_validator("tool_choice")
    @classmethod
    def _known(cls, choice: str | ChosenFunction | AllowedFunctions | None, info: ValidationInfo) -> Any:
        if isinstance(choice, str) and choice != "required":
            return choice
        names = {tool.name for tool in info.data.get("tools") or []}
        if not names:
            raise ValueError("needs 'tools' to choose from")
        asked = choice.tools if isinstance(choice, AllowedFunctions) else [choice]
        for function in asked:
            if isinstance(function, ChosenFunction) and function.name not in names:
                raise ValueError(f"there is no function '{function.name[:64]}' among 'tools'")
        return choice

    @property
    def is_kept(self) -> bool:
        """Whether later requests may refer to what is answered."""
        return self.store is not False
