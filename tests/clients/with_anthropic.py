"""Anthropic's Python client, with an address, a key, and the header for it."""

from __future__ import annotations

from typing import Any

import anthropic

from tests.clients.forms import Tree, Weather
from tests.clients.program import (
    API_KEY,
    API_URL,
    LONG_TEXT,
    MODEL,
    PATIENCE_SECONDS,
    SCENARIO,
    Seen,
    feature,
    raised,
    run,
)

client = anthropic.Anthropic(
    base_url=API_URL.removesuffix("/v1"),
    api_key=API_KEY,
    # By itself this version sends the key as `Authorization: Bearer`, which the route does not read.
    default_headers={"X-Api-Key": API_KEY},
    max_retries=0,
    timeout=PATIENCE_SECONDS,
)
asked: Any = {"role": "user", "content": SCENARIO["tool_question"]}
plain: dict[str, Any] = {
    "model": MODEL,
    "system": SCENARIO["system"],
    "messages": [{"role": "user", "content": SCENARIO["question"]}],
    "max_tokens": SCENARIO["max_tokens"],
    "extra_body": {"temperature": 0},
}
tool: Any = {"name": "get_weather", "description": "Weather", "input_schema": Weather.model_json_schema()}


@feature("messages")
def messages() -> Seen:
    answer = client.messages.create(**plain)
    events = [event.type for event in client.messages.create(**plain, stream=True)]
    with client.messages.stream(**plain) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text, "the helper streamed no text"
    assert final.usage.output_tokens > 0, "the helper's message has no usage"
    used = answer.usage
    return {
        "id": answer.id,
        "text": "".join(block.text for block in answer.content if block.type == "text"),
        "finish": answer.stop_reason,
        "usage": [used.input_tokens, used.output_tokens, used.input_tokens + used.output_tokens],
        "events": events,
    }


def _first(stream: bool) -> Any:
    request: dict[str, Any] = {
        **plain,
        "messages": [asked],
        "max_tokens": 400,
        "tools": [tool],
        "tool_choice": {"type": "tool", "name": "get_weather"},
    }
    if not stream:
        return client.messages.create(**request)
    with client.messages.stream(**request) as events:
        return events.get_final_message()


@feature("messages: tool loop")
def messages_tool_loop() -> Seen:
    """The content goes back as each helper gives it."""
    whole, streamed = _first(stream=False), _first(stream=True)
    echoes = {
        "create()": whole.content,
        "model_dump()": whole.model_dump()["content"],
        "stream()": streamed.content,
    }
    seen = {}
    for how, content in echoes.items():
        block = content[-1]
        call_id = block["id"] if isinstance(block, dict) else block.id
        result = {"type": "tool_result", "tool_use_id": call_id, "content": SCENARIO["tool_result"]}
        turns: Any = [asked, {"role": "assistant", "content": content}, {"role": "user", "content": [result]}]
        answer = client.messages.create(
            **plain | {"messages": turns}, tools=[tool], tool_choice={"type": "none"}
        )
        text = "".join(block.text for block in answer.content if block.type == "text")
        seen[how] = {"text": text, "finish": answer.stop_reason}
    call = whole.content[-1]
    assert whole.stop_reason == "tool_use", whole.stop_reason
    return {"echoes": seen, "call_id": call.id, "name": call.name, "arguments": call.input}


@feature("MCP tools")
def mcp_tools() -> Seen:
    tools: Any = [
        {"name": t["name"], "description": t["description"], "input_schema": t["inputSchema"]}
        for t in SCENARIO["mcp_tools"]
    ]
    answer = client.messages.create(**plain, tools=tools)
    used = answer.usage
    return {
        "finish": answer.stop_reason,
        "usage": [used.input_tokens, used.output_tokens, used.input_tokens + used.output_tokens],
    }


@feature("structured")
def structured() -> Seen:
    form_asked: Any = [{"role": "user", "content": SCENARIO["form_question"]}]
    answer = client.messages.parse(model=MODEL, max_tokens=400, messages=form_asked, output_format=Tree)
    value = answer.parsed_output
    return {"type": type(value).__name__, "value": value and value.model_dump()}


@feature("structured + tools")
def structured_with_tools() -> Seen:
    form_asked: Any = [{"role": "user", "content": SCENARIO["form_question"]}]
    answer = client.messages.parse(
        model=MODEL, max_tokens=400, messages=form_asked, output_format=Tree, tools=[tool]
    )
    if answer.stop_reason == "tool_use":
        return {"name": next(block.name for block in answer.content if block.type == "tool_use")}
    return {"value": answer.parsed_output and answer.parsed_output.model_dump()}


@feature("errors")
def errors() -> Seen:
    stranger = client.with_options(default_headers={"X-Api-Key": "eg-nobody-has-this-key"})
    too_long: Any = [{"role": "user", "content": LONG_TEXT}]
    return {
        "classes": {
            "401": raised(anthropic.AuthenticationError, lambda: stranger.messages.create(**plain)),
            "404": raised(
                anthropic.NotFoundError, lambda: client.messages.create(**plain | {"model": "gpt-99"})
            ),
            "400": raised(
                anthropic.BadRequestError, lambda: client.messages.create(**plain | {"max_tokens": -1})
            ),
            "context": raised(
                anthropic.BadRequestError, lambda: client.messages.create(**plain | {"messages": too_long})
            ),
        }
    }


if __name__ == "__main__":
    own = "speaks Anthropic's protocol: see messages"
    nothing = dict.fromkeys(
        ("embeddings: texts", "embeddings: base64", "embeddings: tokens", "completions"),
        "Anthropic's protocol has none",
    )
    others = ("chat", "stream", "usage in stream", "forced tool", "tool loop")
    responses = ("responses", "responses: tool loop", "responses: structured")
    run(
        "anthropic",
        limits={
            **dict.fromkeys((*others, *responses), own),
            **nothing,
            "batches": "Anthropic's own batches (/v1/messages/batches), which Evergreen does not have",
        },
    )
