"""From a request of Anthropic's Messages protocol to the chat that the stages and the model know. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from contracts.chat import ChatRequest
from contracts.messages_api import (
    MessagesRequest,
    MessageTool,
    MessageTurn,
    TextBlock,
    Texts,
    ToolResultBlock,
    ToolUseBlock,
)

FAILED = "Error: "
"""Stands before the result of a tool that failed: a chat has no other place for it."""

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_SAME = ("model", "max_tokens", "temperature", "top_p", "stream")


def chat_request(asked: MessagesRequest) -> ChatRequest:
    """The chat that is asked for; what was left out stays out."""
    given = asked.model_dump(include=set(_SAME), exclude_unset=True)
    chat: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    chat["messages"] = [*_system(asked), *_turns(asked.messages)]
    if asked.stream:
        chat["stream_options"] = {"include_usage": True}
    if asked.stop_sequences:
        chat["stop"] = asked.stop_sequences
    if asked.metadata and asked.metadata.user_id:
        chat["user"] = asked.metadata.user_id
    if asked.format:
        schema = {"name": "answer", "schema": asked.format.schema_}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    return ChatRequest.model_validate(chat | _tools(asked))


def _tools(asked: MessagesRequest) -> dict[str, Any]:
    if not asked.tools:
        return {}
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in asked.tools]}
    choice = asked.tool_choice
    if choice is None:
        return fields
    named = {"type": "function", "function": {"name": choice.name}}
    fields["tool_choice"] = _CHOICES.get(choice.type, named)
    if choice.disable_parallel_tool_use:
        fields["parallel_tool_calls"] = False
    return fields


def _tool(tool: MessageTool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _system(asked: MessagesRequest) -> Iterator[dict[str, Any]]:
    if asked.system:
        yield {"role": "system", "content": _content(asked.system)}


def _turns(turns: list[MessageTurn]) -> Iterator[dict[str, Any]]:
    """Turns of the same role in a row are one, as this protocol has it."""
    for role, same in groupby(turns, key=lambda turn: turn.role):
        blocks = [block for turn in same for block in turn.blocks]
        texts = [block for block in blocks if isinstance(block, TextBlock)]
        if role == "assistant":
            calls = [_call(block) for block in blocks if isinstance(block, ToolUseBlock)]
            yield {
                "role": role,
                "content": _content(texts) if texts or not calls else None,
                "tool_calls": calls or None,
            }
            continue
        results = [block for block in blocks if isinstance(block, ToolResultBlock)]
        # A model's template wants the results right behind the calls, wherever the text stands.
        yield from map(_result, results)
        if texts or not results:
            yield {"role": role, "content": _content(texts)}


def _call(block: ToolUseBlock) -> dict[str, Any]:
    arguments = json.dumps(block.input, ensure_ascii=False)
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _result(block: ToolResultBlock) -> dict[str, Any]:
    content = _content(block.content or "")
    if block.is_error:
        text = content if isinstance(content, str) else "".join(part["text"] for part in content)
        content = FAILED + text
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _content(texts: Texts) -> str | list[dict[str, Any]]:
    """One text as it is, several as parts."""
    if isinstance(texts, str):
        return texts
    parts = [{"type": "text", "text": block.text} for block in texts]
    return parts if len(parts) > 1 else "".join(part["text"] for part in parts)
