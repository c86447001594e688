"""LiteLLM's SDK."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import litellm

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

access: dict[str, Any] = {
    "api_base": API_URL,
    "api_key": API_KEY,
    "timeout": PATIENCE_SECONDS,
    "num_retries": 0,
}
plain: dict[str, Any] = {
    **access,
    "model": f"openai/{MODEL}",
    "messages": MESSAGES,
    "max_tokens": SCENARIO["max_tokens"],
    "temperature": 0,
}
asked = {"role": "user", "content": SCENARIO["tool_question"]}
form_asked = {"role": "user", "content": SCENARIO["form_question"]}
tool = {"type": "function", "function": {"name": "get_weather", "parameters": Weather.model_json_schema()}}
forced = {"type": "function", "function": {"name": "get_weather"}}


def _counts(usage: Any) -> list[int]:
    return [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens]


@feature("chat")
def chat() -> Seen:
    answer = litellm.completion(**plain, reasoning_effort="low", allowed_openai_params=["reasoning_effort"])
    choice = answer.choices[0]
    return {
        "id": answer.id,
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "usage": _counts(answer.usage),
    }


@feature("stream")
def stream() -> Seen:
    chunks = list(litellm.completion(**plain, stream=True))
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    finish = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    return {"text": "".join(pieces), "pieces": len(pieces), "finish": finish[-1]}


@feature("usage in stream")
def usage_in_stream() -> Seen:
    chunks = list(litellm.completion(**plain, stream=True, stream_options={"include_usage": True}))
    found = [c.usage for c in chunks if getattr(c, "usage", None)]
    return {"usage": _counts(found[0]), "chunks_with_usage": len(found)}


def _called(**given: Any) -> Any:
    request = {**plain, "messages": [asked], "max_tokens": 400, "tools": [tool], "tool_choice": forced}
    return litellm.completion(**request | given)


@feature("forced tool")
def forced_tool() -> Seen:
    choice = _called().choices[0]
    (call,) = choice.message.tool_calls
    return {
        "call_id": call.id,
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
        "finish": choice.finish_reason,
    }


@feature("tool loop")
def tool_loop() -> Seen:
    whole = _called().choices[0].message
    joined = litellm.stream_chunk_builder(list(_called(stream=True)), messages=[asked])
    assert joined
    echoes = {
        "completion()": whole,
        "model_dump()": whole.model_dump(),
        "stream_chunk_builder()": joined.choices[0].message,
    }
    seen = {}
    for how, message in echoes.items():
        calls = message["tool_calls"]
        result = {"role": "tool", "tool_call_id": calls[0]["id"], "content": SCENARIO["tool_result"]}
        request = plain | {"messages": [asked, message, result]}
        choice = litellm.completion(**request, tools=[tool], tool_choice="none").choices[0]
        seen[how] = {"text": choice.message.content, "finish": choice.finish_reason}
    return {"echoes": seen}


@feature("MCP tools")
def mcp_tools() -> Seen:
    tools = [
        {
            "type": "function",
            "function": {"name": t["name"], "description": t["description"], "parameters": t["inputSchema"]},
        }
        for t in SCENARIO["mcp_tools"]
    ]
    answer = litellm.completion(**plain, tools=tools)
    return {"finish": answer.choices[0].finish_reason, "usage": _counts(answer.usage)}


def _formed(**given: Any) -> Any:
    return (
        litellm.completion(
            **plain | {"messages": [form_asked], "max_tokens": 400}, response_format=Tree, **given
        )
        .choices[0]
        .message
    )


@feature("structured")
def structured() -> Seen:
    value = Tree.model_validate_json(_formed().content)
    return {"type": type(value).__name__, "value": value.model_dump()}


@feature("structured + tools")
def structured_with_tools() -> Seen:
    message = _formed(tools=[tool])
    if message.tool_calls:
        return {"name": message.tool_calls[0].function.name}
    return {"value": json.loads(message.content)}


def _embedded(given: Any, **fields: Any) -> Any:
    return litellm.embedding(model=f"openai/{EMBEDDING_MODEL}", input=given, **access, **fields)


@feature("embeddings: texts")
def embeddings_of_texts() -> Seen:
    reply = _embedded(SCENARIO["texts"])
    return {"vectors": [item["embedding"] for item in reply.data], "prompt_tokens": reply.usage.prompt_tokens}


@feature("embeddings: base64")
def embeddings_in_base64() -> Seen:
    reply = _embedded(SCENARIO["texts"], encoding_format="base64")
    return {"vectors": [floats(item["embedding"]) for item in reply.data]}


@feature("embeddings: tokens")
def embeddings_of_tokens() -> Seen:
    return {"vectors": [item["embedding"] for item in _embedded(SCENARIO["tokens"]).data]}


responses_request: dict[str, Any] = {**access, "model": f"openai/{MODEL}", "temperature": 0}


@feature("responses")
def responses() -> Seen:
    request = {**responses_request, "input": SCENARIO["question"], "max_output_tokens": 16}
    answer = litellm.responses(**request)
    events = [
        str(getattr(event.type, "value", event.type)) for event in litellm.responses(**request, stream=True)
    ]
    used = answer.usage
    text = "".join(part.text for item in answer.output if item.type == "message" for part in item.content)
    return {
        "text": text,
        "finish": answer.status,
        "usage": [used.input_tokens, used.output_tokens, used.total_tokens],
        "events": events,
        "id": "resp_" if str(answer.id).startswith("resp_") else answer.id,
    }


@feature("responses: tool loop")
def responses_tool_loop() -> Seen:
    flat = {"type": "function", **tool["function"]}  # type: ignore[dict-item]
    first = litellm.responses(
        **responses_request,
        input=[asked],
        max_output_tokens=400,
        tools=[flat],
        tool_choice={"type": "function", "name": "get_weather"},
    )
    (call,) = [item for item in first.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": SCENARIO["tool_result"]}
    second = litellm.responses(
        **responses_request,
        input=[asked, *(item.model_dump() for item in first.output), result],
        max_output_tokens=16,
        tools=[flat],
        tool_choice="none",
    )
    text = "".join(part.text for item in second.output if item.type == "message" for part in item.content)
    return {
        "echoes": {"model_dump()": {"text": text, "finish": second.status}},
        "call_id": call.call_id,
        "name": call.name,
        "arguments": json.loads(call.arguments),
    }


@feature("responses: structured")
def responses_structured() -> Seen:
    answer = litellm.responses(
        **responses_request, input=[form_asked], max_output_tokens=400, text_format=Tree
    )
    text = "".join(part.text for item in answer.output if item.type == "message" for part in item.content)
    return {"value": json.loads(text)}


@feature("messages")
def messages() -> Seen:
    """Anthropic's protocol, by its own provider."""
    request: dict[str, Any] = {
        **plain,
        "model": f"anthropic/{MODEL}",
        "api_base": API_URL.removesuffix("/v1"),
    }
    answer = litellm.completion(**request)
    streamed = list(litellm.completion(**request, stream=True))
    assert sum(bool(c.choices and c.choices[0].delta.content) for c in streamed) > 1, "no stream"
    return {
        "text": answer.choices[0].message.content,
        "finish": answer.choices[0].finish_reason,
        "usage": _counts(answer.usage),
        "hidden": ["id", "events"],
    }


@feature("messages: tool loop")
def messages_tool_loop() -> Seen:
    where: dict[str, Any] = {"model": f"anthropic/{MODEL}", "api_base": API_URL.removesuffix("/v1")}
    message = _called(**where).choices[0].message
    (call,) = message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": SCENARIO["tool_result"]}
    request = plain | where | {"messages": [asked, message, result]}
    choice = litellm.completion(**request, tools=[tool], tool_choice="none").choices[0]
    return {
        "echoes": {"completion()": {"text": choice.message.content, "finish": choice.finish_reason}},
        "call_id": call.id,
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
    }


@feature("completions")
def completions() -> Seen:
    reply = litellm.text_completion(
        **access, model=f"text-completion-openai/{MODEL}", prompt=["A larch is", "An oak is"], max_tokens=4
    )
    return {"texts": [choice.text for choice in reply.choices], "hidden": ["token_logprobs"]}


@feature("batches")
def batches() -> Seen:
    where: dict[str, Any] = {"custom_llm_provider": "openai", "api_base": API_URL, "api_key": API_KEY}
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 2}
    lines = [
        {"custom_id": f"r{n}", "method": "POST", "url": "/v1/chat/completions", "body": body} for n in (1, 2)
    ]
    data = io.BytesIO("\n".join(json.dumps(line) for line in lines).encode())
    data.name = "requests.jsonl"
    file = litellm.create_file(file=data, purpose="batch", **where)
    batch = litellm.create_batch(
        completion_window="24h", endpoint="/v1/chat/completions", input_file_id=file.id, **where
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while batch.status not in ("completed", "failed", "expired") and time.monotonic() < deadline:
        time.sleep(0.5)
        batch = litellm.retrieve_batch(batch_id=batch.id, **where)
    content = litellm.file_content(file_id=batch.output_file_id, **where).text if batch.output_file_id else ""
    results = [json.loads(line) for line in content.splitlines()]
    listed = [one.id for one in litellm.list_batches(**where).data]
    return {
        "status": batch.status,
        "results": {r["custom_id"]: r["response"]["status_code"] for r in results},
        "listed": batch.id in listed,
        "file": litellm.file_delete(file_id=file.id, **where).deleted,
    }


@feature("errors")
def errors() -> Seen:
    def with_(**given: Any) -> Any:
        return lambda: litellm.completion(**plain | given)

    too_long = [{"role": "user", "content": LONG_TEXT}]
    return {
        "classes": {
            "401": raised(litellm.AuthenticationError, with_(api_key="eg-nobody-has-this-key")),
            "404": raised(litellm.NotFoundError, with_(model="openai/gpt-99")),
            "400": raised(litellm.BadRequestError, with_(temperature=9)),
            "context": raised(litellm.ContextWindowExceededError, with_(messages=too_long)),
        }
    }


if __name__ == "__main__":
    litellm.suppress_debug_info = True
    run("litellm", "openai")
