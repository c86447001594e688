"""LlamaIndex's classes for servers that speak OpenAI's protocol."""

from __future__ import annotations

from typing import Any

import openai
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.tools import FunctionTool, ToolMetadata
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike, OpenAILikeResponses

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

MESSAGES = [
    ChatMessage(role=MessageRole.SYSTEM, content=SCENARIO["system"]),
    ChatMessage(role=MessageRole.USER, content=SCENARIO["question"]),
]
ASKED = ChatMessage(role=MessageRole.USER, content=SCENARIO["tool_question"])
FORM_ASKED = [ChatMessage(role=MessageRole.USER, content=SCENARIO["form_question"])]


def get_weather(**given: Any) -> str:
    """Weather of the coming days."""
    return str(SCENARIO["tool_result"])


WEATHER = FunctionTool.from_defaults(get_weather, name="get_weather", fn_schema=Weather)


def model(max_tokens: int = SCENARIO["max_tokens"], **fields: Any) -> OpenAILike:
    """The class with an address, a key and a model."""
    given: dict[str, Any] = {
        "model": MODEL,
        "api_base": API_URL,
        "api_key": API_KEY,
        "is_chat_model": True,
        "is_function_calling_model": True,
        "context_window": 8192,
        "max_tokens": max_tokens,
        "temperature": 0,
        "max_retries": 0,
        "timeout": PATIENCE_SECONDS,
    }
    return OpenAILike(**given | fields)


def _counts(raw: Any) -> list[int]:
    used = raw.usage
    return [used.prompt_tokens, used.completion_tokens, used.total_tokens]


@feature("chat")
def chat() -> Seen:
    answer = model().chat(MESSAGES)
    raw: Any = answer.raw
    return {
        "id": raw.id,
        "text": answer.message.content,
        "finish": raw.choices[0].finish_reason,
        "usage": _counts(raw),
    }


@feature("stream")
def stream() -> Seen:
    answers = list(model().stream_chat(MESSAGES))
    raw: Any = answers[-1].raw
    return {
        "pieces": len([answer for answer in answers if answer.delta]),
        "text": answers[-1].message.content,
        "finish": raw.choices[0].finish_reason if raw.choices else "stop",
    }


@feature("usage in stream")
def usage_in_stream() -> Seen:
    told = model(additional_kwargs={"stream_options": {"include_usage": True}}).stream_chat(MESSAGES)
    raws: list[Any] = [answer.raw for answer in told]
    found = [raw for raw in raws if raw is not None and getattr(raw, "usage", None)]
    return {"usage": _counts(found[0]), "chunks_with_usage": len(found)}


def _described(chat_model: Any, answer: Any) -> Seen:
    (call,) = chat_model.get_tool_calls_from_response(answer)
    return {"call_id": call.tool_id, "name": call.tool_name, "arguments": call.tool_kwargs}


@feature("forced tool")
def forced_tool() -> Seen:
    answer = model(400).chat_with_tools([WEATHER], user_msg=ASKED, tool_required=True)
    raw: Any = answer.raw
    return {**_described(model(), answer), "finish": raw.choices[0].finish_reason}


def _loop(chat_model: Any, brief: Any) -> Seen:
    whole = chat_model.chat_with_tools([WEATHER], user_msg=ASKED, tool_required=True)
    streamed = list(chat_model.stream_chat_with_tools([WEATHER], user_msg=ASKED, tool_required=True))[-1]
    seen = {}
    for how, first in {"chat_with_tools()": whole, "stream_chat_with_tools()": streamed}.items():
        (call,) = chat_model.get_tool_calls_from_response(first)
        result = ChatMessage(
            role=MessageRole.TOOL,
            content=SCENARIO["tool_result"],
            additional_kwargs={"tool_call_id": call.tool_id, "name": call.tool_name},
        )
        second = brief.chat([ASKED, first.message, result], tools=None)
        seen[how] = {"text": second.message.content, "hidden": ["finish"]}
    return {"echoes": seen, **_described(chat_model, whole)}


@feature("tool loop")
def tool_loop() -> Seen:
    return _loop(model(400), model())


@feature("MCP tools")
def mcp_tools() -> Seen:
    class Described(ToolMetadata):
        """A tool that has a schema and no class for it."""

        schema: dict[str, Any] = {}

        def get_parameters_dict(self) -> dict[str, Any]:
            return self.schema

    tools = []
    for t in SCENARIO["mcp_tools"]:
        metadata = Described(description=t["description"], name=t["name"])
        metadata.schema = t["inputSchema"]
        tools.append(FunctionTool(get_weather, metadata=metadata))
    raw: Any = model().chat_with_tools(tools, user_msg=SCENARIO["question"]).raw
    return {"finish": raw.choices[0].finish_reason, "usage": _counts(raw)}


def _structured(chat_model: Any) -> Seen:
    value: Any = chat_model.as_structured_llm(Tree).chat(FORM_ASKED).raw
    return {"type": type(value).__name__, "value": value.model_dump()}


@feature("structured")
def structured() -> Seen:
    _structured(model(400))
    return _structured(model(400, should_use_structured_outputs=True))


@feature("embeddings: texts")
def embeddings_of_texts() -> Seen:
    embeddings = OpenAILikeEmbedding(
        model_name=EMBEDDING_MODEL, api_base=API_URL, api_key=API_KEY, max_retries=0
    )
    return {"vectors": embeddings.get_text_embedding_batch(SCENARIO["texts"])}


def responses_model(max_output_tokens: int = SCENARIO["max_tokens"]) -> OpenAILikeResponses:
    """The class for the newer protocol."""
    return OpenAILikeResponses(
        model=MODEL,
        api_base=API_URL,
        api_key=API_KEY,
        max_output_tokens=max_output_tokens,
        temperature=0,
        max_retries=0,
        context_window=8192,
        timeout=PATIENCE_SECONDS,
    )


@feature("responses")
def responses() -> Seen:
    answers = list(responses_model().stream_chat(MESSAGES))
    assert len([a for a in answers if a.delta]) > 1, "no pieces"
    answer = responses_model().chat(MESSAGES)
    raw: Any = answer.raw
    used = raw.usage
    return {
        "id": raw.id,
        "text": answer.message.content,
        "finish": raw.status,
        "usage": [used.input_tokens, used.output_tokens, used.total_tokens],
        "hidden": ["events"],
    }


@feature("responses: tool loop")
def responses_tool_loop() -> Seen:
    return _loop(responses_model(400), responses_model())


@feature("responses: structured")
def responses_structured() -> Seen:
    return _structured(responses_model(400))


@feature("completions")
def completions() -> Seen:
    texts = [model(4, is_chat_model=False).complete(prompt).text for prompt in ("A larch is", "An oak is")]
    return {"texts": texts, "hidden": ["token_logprobs"]}


@feature("errors")
def errors() -> Seen:
    question = "Hi"
    return {
        "classes": {
            "401": raised(openai.AuthenticationError, lambda: model(api_key="eg-nobody").complete(question)),
            "404": raised(openai.NotFoundError, lambda: model(model="gpt-99").complete(question)),
            "400": raised(openai.BadRequestError, lambda: model(max_tokens=10**9).complete(question)),
            "context": raised(openai.BadRequestError, lambda: model().complete(LONG_TEXT)),
        }
    }


if __name__ == "__main__":
    run(
        "llama-index-llms-openai-like",
        "openai",
        limits={
            "structured + tools": "its structured models take no tools",
            "embeddings: base64": "leaves the encoding to OpenAI's client",
            "embeddings: tokens": "sends texts only",
            "messages": "this package speaks OpenAI's protocol",
            "messages: tool loop": "this package speaks OpenAI's protocol",
            "batches": "has no batches",
        },
    )
