"""A Responses request as the chat that it stands for: items become turns. Pure.

A message of the model's and the calls that follow it are one turn of a chat.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from contracts.chat import ChatRequest, StreamOptions
from contracts.messages import CalledFunction, Message, ToolCall
from contracts.responses import (
    INCLUDE_LOGPROBS,
    AllowedFunctions,
    ChosenFunction,
    FunctionTool,
    InputCall,
    InputCallOutput,
    InputMessage,
    ItemReference,
    ResponsesRequest,
    SchemaFormat,
    text_of,
)
from contracts.tools import (
    Function,
    FunctionName,
    NamedSchema,
    NamedTool,
    ResponseFormat,
    Tool,
)
from lambdas.runtime.errors import ApiError

ChatItem = InputMessage | InputCall | InputCallOutput
"""An item that says something itself."""

_SAME = ("temperature", "top_p", "parallel_tool_calls", "user", "metadata")
_PLAIN_CHOICES = ("none", "auto", "required")


def chat_request(asked: ResponsesRequest, turns: list[Message]) -> ChatRequest:
    """The chat; `turns` are all of the conversation but the instructions. Raises ApiError 400."""
    _refuse_orphans(turns)
    if asked.instructions is not None:
        turns = [Message(role="system", content=asked.instructions), *turns]
    fields: dict[str, Any] = {
        "model": asked.model,
        "messages": turns,
        "stream": asked.stream,
        **asked.model_dump(include=set(_SAME), exclude_none=True),
        **_tools(asked),
        **_format(asked),
    }
    if asked.max_output_tokens is not None:
        fields["max_completion_tokens"] = asked.max_output_tokens
    if asked.stream:
        fields["stream_options"] = StreamOptions(include_usage=True)  # its events always tell it
    if INCLUDE_LOGPROBS in (asked.include or []):
        fields |= {"logprobs": True, "top_logprobs": asked.top_logprobs or 0}
    return ChatRequest.model_validate(fields)


def turns_of(items: Iterable[ChatItem]) -> list[Message]:
    """The turns that items are."""
    turns: list[Message] = []
    for item in items:
        if isinstance(item, InputCallOutput):
            turns.append(Message(role="tool", tool_call_id=item.call_id, content=text_of(item.output)))
        elif isinstance(item, InputMessage):
            turns.append(Message(role=item.role, content=text_of(item.content)))
        else:
            _add_call(turns, item)
    return turns


def _add_call(turns: list[Message], item: InputCall) -> None:
    """A call belongs to the turn of the model's that it follows."""
    function = CalledFunction(name=item.name, arguments=item.arguments)
    call = ToolCall(id=item.call_id, type="function", function=function)
    last = turns[-1] if turns and turns[-1].role == "assistant" else None
    if last is None:
        turns.append(Message(role="assistant", tool_calls=[call]))
    else:
        turns[-1] = last.model_copy(update={"tool_calls": [*(last.tool_calls or []), call]})


def items_of(asked: ResponsesRequest) -> list[ChatItem | ItemReference]:
    """The items that a request brings; what no model reads is left out."""
    if isinstance(asked.input, str):
        return [InputMessage(role="user", content=asked.input)]
    kinds = (InputMessage, InputCall, InputCallOutput, ItemReference)
    return [item for item in asked.input if isinstance(item, kinds)]


def _refuse_orphans(turns: list[Message]) -> None:
    """A chat template has no words for the result of a call that nobody made."""
    if not turns:
        raise ApiError(
            "invalid_request_error",
            "There is nothing to answer: 'input' holds no message and no result of a call.",
            param="input",
            code="invalid_value",
        )
    known: set[str] = set()
    for turn in turns:
        known |= {call.id for call in turn.tool_calls or []}
        if turn.tool_call_id is not None and turn.tool_call_id not in known:
            raise ApiError(
                "invalid_request_error",
                "A function_call_output stands before its function_call, or without it: send the call first,"
                " a reference to it, or the id of its answer as previous_response_id.",
                param="input",
                code="invalid_value",
            )


def _tools(asked: ResponsesRequest) -> dict[str, Any]:
    """The functions on offer and the choice among them; a choice without any says nothing."""
    offered, choice = asked.tools or [], asked.tool_choice
    if not offered:
        return {}
    if isinstance(choice, AllowedFunctions):
        allowed = {function.name for function in choice.tools}
        offered = [tool for tool in offered if tool.name in allowed]
        return {"tools": [_tool(tool) for tool in offered], "tool_choice": choice.mode}
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in offered]}
    if isinstance(choice, ChosenFunction):
        fields["tool_choice"] = NamedTool(type="function", function=FunctionName(name=choice.name))
    elif choice in _PLAIN_CHOICES:
        fields["tool_choice"] = choice
    return fields


def _tool(tool: FunctionTool) -> Tool:
    """The schema has been checked as the caller's: it is not checked twice."""
    fields = {name: getattr(tool, name) for name in tool.model_fields_set if name != "type"}
    return Tool(type="function", function=Function.model_construct(_fields_set=set(fields), **fields))


def _format(asked: ResponsesRequest) -> dict[str, Any]:
    wanted = asked.text.format if asked.text else None
    if wanted is None:
        return {}
    if not isinstance(wanted, SchemaFormat):
        return {"response_format": ResponseFormat(type=wanted.type)}
    fields = {name: getattr(wanted, name) for name in wanted.model_fields_set if name != "type"}
    schema = NamedSchema.model_construct(_fields_set=set(fields), **fields)
    return {"response_format": ResponseFormat(type="json_schema", json_schema=schema)}
