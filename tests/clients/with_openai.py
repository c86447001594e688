"""The official Python client: each of its helpers, their echoes of an answer, and every route it knows."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import openai

from tests.clients.forms import Tree, Weather
from tests.clients.program import (
    API_KEY,
    API_URL,
    EMBEDDING_MODEL,
    LONG_TEXT,
    MESSAGES,
    MODEL,
    PATIENCE_SECONDS,
    SCENARIO,
    Seen,
    feature,
    floats,
    raised,
    run,
)

client = openai.OpenAI(base_url=API_URL, api_key=API_KEY, max_retries=0, timeout=PATIENCE_SECONDS)
plain: dict[str, Any] = {
    "model": MODEL,
    "messages": MESSAGES,
    "max_tokens": SCENARIO["max_tokens"],
    "temperature": 0,
}
long: dict[str, Any] = {"model": MODEL, "max_tokens": 400, "temperature": 0}
asked = {"role": "user", "content": SCENARIO["tool_question"]}
form_asked = {"role": "user", "content": SCENARIO["form_question"]}
tool = openai.pydantic_function_tool(Weather, name="get_weather")
forced: Any = {"type": "function", "function": {"name": "get_weather"}}


def _counts(usage: Any) -> list[int] | None:
    return usage and [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens]


@feature("chat")
def chat() -> Seen:
    answer = client.chat.completions.create(**plain)
    choice = answer.choices[0]
    return {
        "id": answer.id,
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "usage": _counts(answer.usage),
    }


@feature("stream")
def stream() -> Seen:
    pieces, finish = [], None
    for chunk in client.chat.completions.create(**plain, stream=True):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            pieces += [choice.delta.content] if choice.delta.content else []
    return {"text": "".join(pieces), "pieces": len(pieces), "finish": finish}


@feature("usage in stream")
def usage_in_stream() -> Seen:
    options: Any = {"include_usage": True}
    found = [
        c.usage
        for c in client.chat.completions.create(**plain, stream=True, stream_options=options)
        if c.usage
    ]
    return {"usage": _counts(found[0]), "chunks_with_usage": len(found)}


@feature("forced tool")
def forced_tool() -> Seen:
    answer = client.chat.completions.create(**long, messages=[asked], tools=[tool], tool_choice=forced)
    (call,) = answer.choices[0].message.tool_calls or []
    return {
        "call_id": call.id,
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
        "finish": answer.choices[0].finish_reason,
    }


def _streamed(request: dict[str, Any]) -> Any:
    with client.chat.completions.stream(**request) as events:
        events.until_done()
        return events.get_final_completion().choices[0].message


@feature("tool loop")
def tool_loop() -> Seen:
    """The answer goes back as each helper gives it, with the tool's result behind it."""
    request: dict[str, Any] = {**long, "messages": [asked], "tools": [tool], "tool_choice": forced}
    created = client.chat.completions.create(**request).choices[0].message
    echoes = {
        "create()": created,
        "to_dict()": created.to_dict(),
        "model_dump()": created.model_dump(),
        "parse()": client.chat.completions.parse(**request).choices[0].message,
        "stream()": (streamed := _streamed(request)),
        "stream().model_dump()": streamed.model_dump(),
    }
    seen = {}
    for helper, message in echoes.items():
        calls = message["tool_calls"] if isinstance(message, dict) else message.tool_calls
        call_id = calls[0]["id"] if isinstance(calls[0], dict) else calls[0].id
        result = {"role": "tool", "tool_call_id": call_id, "content": SCENARIO["tool_result"]}
        answer = client.chat.completions.create(
            **plain | {"messages": [asked, message, result]}, tools=[tool], tool_choice="none"
        )
        seen[helper] = {"text": answer.choices[0].message.content, "finish": answer.choices[0].finish_reason}
    return {"echoes": seen}


@feature("structured")
def structured() -> Seen:
    answer = client.chat.completions.parse(**long, messages=[form_asked], response_format=Tree)
    value = answer.choices[0].message.parsed
    return {"type": type(value).__name__, "value": value and value.model_dump(), "echo": _second(answer)}


def _second(answer: Any) -> str | None:
    """What comes when a parsed answer is put back."""
    turns = [form_asked, answer.choices[0].message, {"role": "user", "content": "Shorter."}]
    return client.chat.completions.create(**plain | {"messages": turns}).choices[0].message.content


@feature("structured + tools")
def structured_with_tools() -> Seen:
    answer = client.chat.completions.parse(**long, messages=[form_asked], response_format=Tree, tools=[tool])
    message = answer.choices[0].message
    if message.tool_calls:
        return {"name": message.tool_calls[0].function.name}
    return {"value": message.parsed and message.parsed.model_dump()}


@feature("MCP tools")
def mcp_tools() -> Seen:
    tools: Any = [
        {
            "type": "function",
            "function": {"name": t["name"], "description": t["description"], "parameters": t["inputSchema"]},
        }
        for t in SCENARIO["mcp_tools"]
    ]
    answer = client.chat.completions.create(**plain, tools=tools)
    return {"finish": answer.choices[0].finish_reason, "usage": _counts(answer.usage)}


@feature("embeddings: texts")
def embeddings_of_texts() -> Seen:
    reply = client.embeddings.create(model=EMBEDDING_MODEL, input=SCENARIO["texts"], encoding_format="float")
    return {"vectors": [item.embedding for item in reply.data], "prompt_tokens": reply.usage.prompt_tokens}


@feature("embeddings: base64")
def embeddings_in_base64() -> Seen:
    """What the client asks for by itself, decoded here and by it."""
    raw = client.embeddings.create(model=EMBEDDING_MODEL, input=SCENARIO["texts"], encoding_format="base64")
    decoded = client.embeddings.create(model=EMBEDDING_MODEL, input=SCENARIO["texts"])
    vectors = [floats(str(item.embedding)) for item in raw.data]
    assert vectors == [item.embedding for item in decoded.data]
    return {"vectors": vectors, "prompt_tokens": raw.usage.prompt_tokens}


@feature("embeddings: tokens")
def embeddings_of_tokens() -> Seen:
    reply = client.embeddings.create(model=EMBEDDING_MODEL, input=SCENARIO["tokens"])
    return {"vectors": [item.embedding for item in reply.data], "prompt_tokens": reply.usage.prompt_tokens}


@feature("responses")
def responses() -> Seen:
    answer = client.responses.create(
        model=MODEL,
        instructions=SCENARIO["system"],
        input=SCENARIO["question"],
        max_output_tokens=16,
        temperature=0,
    )
    events = [
        event.type
        for event in client.responses.create(
            model=MODEL,
            instructions=SCENARIO["system"],
            input=SCENARIO["question"],
            max_output_tokens=16,
            temperature=0,
            stream=True,
        )
    ]
    usage = answer.usage
    return {
        "id": answer.id,
        "text": answer.output_text,
        "finish": answer.status,
        "usage": usage and [usage.input_tokens, usage.output_tokens, usage.total_tokens],
        "events": events,
    }


@feature("responses: tool loop")
def responses_tool_loop() -> Seen:
    tools: Any = [
        openai.pydantic_function_tool(Weather, name="get_weather")["function"] | {"type": "function"}
    ]
    request: dict[str, Any] = {"model": MODEL, "temperature": 0, "tools": tools}
    first = client.responses.create(
        **request,
        input=SCENARIO["tool_question"],
        max_output_tokens=400,
        tool_choice={"type": "function", "name": "get_weather"},
    )
    (call,) = [item for item in first.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": SCENARIO["tool_result"]}
    echoes: dict[str, dict[str, Any]] = {
        "output": {"input": [asked, *first.output, result]},
        "model_dump()": {"input": [asked, *(item.model_dump() for item in first.output), result]},
        "previous_response_id": {"input": [result], "previous_response_id": first.id},
    }
    seen = {}
    for how, given in echoes.items():
        second = client.responses.create(**request, **given, max_output_tokens=16, tool_choice="none")
        seen[how] = {"text": second.output_text, "finish": second.status}
    return {
        "echoes": seen,
        "call_id": call.call_id,
        "name": call.name,
        "arguments": json.loads(call.arguments),
    }


@feature("responses: structured")
def responses_structured() -> Seen:
    answer = client.responses.parse(
        model=MODEL, input=SCENARIO["form_question"], text_format=Tree, max_output_tokens=400, temperature=0
    )
    value = answer.output_parsed
    return {"type": type(value).__name__, "value": value and value.model_dump()}


@feature("completions")
def completions() -> Seen:
    reply = client.completions.create(
        model=MODEL, prompt=["A larch is", "An oak is"], max_tokens=4, temperature=0
    )
    scored = client.completions.create(model=MODEL, prompt="A larch is", max_tokens=0, echo=True, logprobs=1)
    found = scored.choices[0].logprobs
    return {
        "texts": [choice.text for choice in reply.choices],
        "indices": [choice.index for choice in reply.choices],
        "token_logprobs": found and found.token_logprobs,
    }


@feature("batches")
def batches() -> Seen:
    lines = [
        {
            "custom_id": f"r{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {**plain, "max_tokens": n},
        }
        for n in (1, 2)
    ]
    data = io.BytesIO("\n".join(json.dumps(line) for line in lines).encode())
    file = client.files.create(file=("requests.jsonl", data), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"of": "clients"},
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while batch.status not in ("completed", "failed", "expired", "cancelled") and time.monotonic() < deadline:
        time.sleep(0.5)
        batch = client.batches.retrieve(batch.id)
    content = client.files.content(batch.output_file_id).text if batch.output_file_id else ""
    results = [json.loads(line) for line in content.splitlines()]
    listed = [b.id for b in client.batches.list(limit=5)]
    return {
        "status": batch.status,
        "results": {r["custom_id"]: r["response"]["status_code"] for r in results},
        "listed": batch.id in listed,
        "file": client.files.delete(file.id).deleted,
    }


@feature("errors")
def errors() -> Seen:
    def at(**given: Any) -> Callable[[], Any]:
        return lambda: client.chat.completions.create(**plain | given)

    stranger = client.with_options(api_key="eg-nobody-has-this-key")
    hasty = client.with_options(timeout=0.001)
    too_long = [{"role": "user", "content": LONG_TEXT}]
    return {
        "classes": {
            "401": raised(openai.AuthenticationError, lambda: stranger.chat.completions.create(**plain)),
            "404": raised(openai.NotFoundError, at(model="gpt-99")),
            "400": raised(openai.BadRequestError, at(temperature=9)),
            "context": raised(openai.BadRequestError, at(messages=too_long)),
            "timeout": raised(openai.APITimeoutError, lambda: hasty.chat.completions.create(**plain)),
        }
    }


if __name__ == "__main__":
    only_openai = "speaks OpenAI's protocol"
    run("openai", limits={"messages": only_openai, "messages: tool loop": only_openai})
