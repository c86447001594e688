"""Haystack's OpenAI components."""

from __future__ import annotations

import os
from typing import Any

import openai
from haystack.components.embedders import OpenAIDocumentEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage, Document
from haystack.tools import Tool
from haystack.utils import Secret

from tests.clients.forms import Tree, Weather
from tests.clients.program import (
    API_KEY,
    API_URL,
    EMBEDDING_MODEL,
    LONG_TEXT,
    MODEL,
    PATIENCE_SECONDS,
    SCENARIO,
    Seen,
    feature,
    raised,
    run,
)

BRIEF: dict[str, Any] = {"max_tokens": SCENARIO["max_tokens"], "temperature": 0}
LONG: dict[str, Any] = {"max_tokens": 400, "temperature": 0}
MESSAGES = [ChatMessage.from_system(SCENARIO["system"]), ChatMessage.from_user(SCENARIO["question"])]
ASKED = ChatMessage.from_user(SCENARIO["tool_question"])
FORM_ASKED = ChatMessage.from_user(SCENARIO["form_question"])
FORCED = {"type": "function", "function": {"name": "get_weather"}}
WEATHER = Tool("get_weather", "Weather", Weather.model_json_schema(), lambda **given: SCENARIO["tool_result"])


def generator(model: str = MODEL, key: str = API_KEY, kind: Any = OpenAIChatGenerator) -> Any:
    """The component with an address, a key and a model."""
    return kind(
        model=model,
        api_base_url=API_URL,
        api_key=Secret.from_token(key),
        timeout=PATIENCE_SECONDS,
        max_retries=0,
    )


def _reply(messages: Any, settings: dict[str, Any], **given: Any) -> ChatMessage:
    reply: ChatMessage = generator().run(messages, generation_kwargs=settings, **given)["replies"][0]
    return reply


def _counts(reply: ChatMessage) -> list[int]:
    used = reply.meta["usage"]
    names = (
        ("prompt_tokens", "completion_tokens")
        if "prompt_tokens" in used
        else ("input_tokens", "output_tokens")
    )
    return [used[names[0]], used[names[1]], used["total_tokens"]]


@feature("chat")
def chat() -> Seen:
    reply = _reply(MESSAGES, BRIEF)
    told = {"text": reply.text, "finish": reply.meta["finish_reason"], "usage": _counts(reply)}
    return {**told, "hidden": ["id"]}


@feature("stream")
def stream() -> Seen:
    pieces: list[str] = []
    reply = _reply(MESSAGES, BRIEF, streaming_callback=lambda chunk: pieces.append(chunk.content))
    return {
        "text": reply.text,
        "pieces": len(list(filter(None, pieces))),
        "finish": reply.meta["finish_reason"],
    }


@feature("usage in stream")
def usage_in_stream() -> Seen:
    settings = {**BRIEF, "stream_options": {"include_usage": True}}
    return {"usage": _counts(_reply(MESSAGES, settings, streaming_callback=lambda chunk: None))}


def _described(reply: ChatMessage) -> Seen:
    (call,) = reply.tool_calls
    return {"call_id": call.id, "name": call.tool_name, "arguments": call.arguments}


@feature("forced tool")
def forced_tool() -> Seen:
    _reply([ASKED], {**LONG, "tool_choice": FORCED}, tools=[WEATHER], tools_strict=True)
    reply = _reply([ASKED], {**LONG, "tool_choice": FORCED}, tools=[WEATHER])
    return {**_described(reply), "finish": reply.meta["finish_reason"]}


@feature("tool loop")
def tool_loop() -> Seen:
    streamed: Any = {"streaming_callback": lambda chunk: None}
    seen = {}
    for how, given in {"run()": {}, "streaming_callback": streamed}.items():
        first = _reply([ASKED], {**LONG, "tool_choice": FORCED}, tools=[WEATHER], **given)
        result = ChatMessage.from_tool(SCENARIO["tool_result"], origin=first.tool_calls[0])
        second = _reply([ASKED, first, result], {**BRIEF, "tool_choice": "none"}, tools=[WEATHER])
        seen[how] = {"text": second.text, "finish": second.meta["finish_reason"]}
    return {"echoes": seen}


@feature("MCP tools")
def mcp_tools() -> Seen:
    tools = [
        Tool(t["name"], t["description"], t["inputSchema"], lambda **given: "") for t in SCENARIO["mcp_tools"]
    ]
    reply = _reply(MESSAGES, BRIEF, tools=tools)
    return {"finish": reply.meta["finish_reason"], "usage": _counts(reply)}


@feature("structured")
def structured() -> Seen:
    reply = _reply([FORM_ASKED], {**LONG, "response_format": Tree})
    return {"value": Tree.model_validate_json(reply.text or "").model_dump()}


@feature("structured + tools")
def structured_with_tools() -> Seen:
    reply = _reply([FORM_ASKED], {**LONG, "response_format": Tree}, tools=[WEATHER], tools_strict=True)
    if reply.tool_calls:
        return {"name": reply.tool_calls[0].tool_name}
    return {"value": Tree.model_validate_json(reply.text or "").model_dump()}


@feature("embeddings: texts")
def embeddings_of_texts() -> Seen:
    embedder = OpenAIDocumentEmbedder(
        api_key=Secret.from_token(API_KEY), model=EMBEDDING_MODEL, api_base_url=API_URL, progress_bar=False
    )
    found = embedder.run([Document(content=text) for text in SCENARIO["texts"]])
    return {
        "vectors": [document.embedding for document in found["documents"]],
        "prompt_tokens": found["meta"]["usage"]["prompt_tokens"],
    }


def _responded(messages: Any, settings: dict[str, Any], **given: Any) -> ChatMessage:
    made = generator(kind=OpenAIResponsesChatGenerator)
    reply: ChatMessage = made.run(messages, generation_kwargs=settings, **given)["replies"][0]
    return reply


@feature("responses")
def responses() -> Seen:
    settings = {"max_output_tokens": 16, "temperature": 0}
    pieces: list[str] = []
    _responded(MESSAGES, settings, streaming_callback=lambda chunk: pieces.append(chunk.content))
    assert len(list(filter(None, pieces))) > 1, f"{pieces}"
    reply = _responded(MESSAGES, settings)
    told = {
        "id": reply.meta["id"],
        "text": reply.text,
        "finish": reply.meta["status"],
        "usage": _counts(reply),
    }
    return {**told, "hidden": ["events"]}


@feature("responses: tool loop")
def responses_tool_loop() -> Seen:
    choice = {"type": "function", "name": "get_weather"}
    settings = {"max_output_tokens": 400, "temperature": 0, "tool_choice": choice}
    first = _responded([ASKED], settings, tools=[WEATHER])
    result = ChatMessage.from_tool(SCENARIO["tool_result"], origin=first.tool_calls[0])
    second = _responded(
        [ASKED, first, result],
        {"max_output_tokens": 16, "temperature": 0, "tool_choice": "none"},
        tools=[WEATHER],
    )
    return {**_described(first), "echoes": {"run()": {"text": second.text, "finish": second.meta["status"]}}}


@feature("responses: structured")
def responses_structured() -> Seen:
    reply = _responded([FORM_ASKED], {"max_output_tokens": 400, "temperature": 0, "text_format": Tree})
    return {"value": Tree.model_validate_json(reply.text or "").model_dump()}


@feature("errors")
def errors() -> Seen:
    return {
        "classes": {
            "401": raised(openai.AuthenticationError, lambda: generator(key="eg-nobody").run(MESSAGES)),
            "404": raised(openai.NotFoundError, lambda: generator("gpt-99").run(MESSAGES)),
            "400": raised(openai.BadRequestError, lambda: _reply(MESSAGES, {"temperature": 9})),
            "context": raised(
                openai.BadRequestError, lambda: _reply([ChatMessage.from_user(LONG_TEXT)], BRIEF)
            ),
        }
    }


if __name__ == "__main__":
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
    run(
        "haystack-ai",
        "openai",
        limits={
            "embeddings: base64": "leaves the encoding to OpenAI's client",
            "embeddings: tokens": "sends texts only",
            "completions": "has no text completions",
            "messages": "this package speaks OpenAI's protocol",
            "messages: tool loop": "this package speaks OpenAI's protocol",
            "batches": "has no batches",
        },
    )
