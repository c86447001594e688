"""Requests of Anthropic's Messages protocol, and its streams as clients read them."""

from __future__ import annotations

import json
from typing import Any

from tests.support.front_door import MODEL

ROUTE = "/v1/messages"
USE = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Köln"}}


def said(text: str) -> dict[str, Any]:
    """A block of text; a part of a chat's content has the same form."""
    return {"type": "text", "text": text}


def message(**fields: Any) -> dict[str, Any]:
    """A request, with whatever is given in place of a plain one."""
    return {
        "model": MODEL,
        "max_tokens": 16,
        "messages": [{"role": "user", "content": "Hi"}],
        **fields,
    }


def turns(*messages: dict[str, Any]) -> dict[str, Any]:
    """A conversation."""
    return {"messages": list(messages)}


def tool(**fields: Any) -> dict[str, Any]:
    """A tool that takes one city."""
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"name": "get_weather", "description": "d", "input_schema": city, **fields}


def with_tools(**fields: Any) -> dict[str, Any]:
    """A request that offers a tool."""
    return message(tools=[tool()], **fields)


def result(content: Any, **fields: Any) -> dict[str, Any]:
    """A turn with the result of the one call."""
    return {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **fields}],
    }


def stream(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each of which must be named as its data says."""
    read = []
    for block in body.split(b"\n\n")[:-1]:
        name, data = block.decode().split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        read.append(event)
    return read
