"""LangChain's OpenAI classes."""

from __future__ import annotations

from typing import Any

import openai
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

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

access: dict[str, Any] = {
    "base_url": API_URL,
    "api_key": API_KEY,
    "max_retries": 0,
    "timeout": PATIENCE_SECONDS,
}
MESSAGES: list[BaseMessage] = [SystemMessage(SCENARIO["system"]), HumanMessage(SCENARIO["question"])]
ASKED = HumanMessage(SCENARIO["tool_question"])
FORM_ASKED = HumanMessage(SCENARIO["form_question"])


def model(max_tokens: int = SCENARIO["max_tokens"], **fields: Any) -> ChatOpenAI:
    """The chat class with an address, a key and a model."""
    return ChatOpenAI(**access | {"model": MODEL, "max_tokens": max_tokens, "temperature": 0, **fields})


def _counts(usage: Any) -> list[int] | None:
    return usage and [usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]]


def _told(answer: AIMessage) -> Seen:
    return {
        "id": answer.response_metadata.get("id"),
        "text": answer.text,
        "finish": answer.response_metadata.get("finish_reason") or answer.response_metadata.get("status"),
        "usage": _counts(answer.usage_metadata),
    }


@feature("chat")
def chat() -> Seen:
    return _told(model().invoke(MESSAGES))


def _streamed(chat_model: ChatOpenAI) -> tuple[list[str], Any, int]:
    pieces, whole, with_usage = [], None, 0
    for chunk in chat_model.stream(MESSAGES):
        whole = chunk if whole is None else whole + chunk
        pieces += [chunk.text] if chunk.text else []
        with_usage += bool(getattr(chunk, "usage_metadata", None))
    return pieces, whole, with_usage


@feature("stream")
def stream() -> Seen:
    pieces, whole, _ = _streamed(model())
    return {
        "pieces": len(pieces),
        "text": "".join(pieces),
        "finish": whole.response_metadata["finish_reason"],
    }


@feature("usage in stream")
def usage_in_stream() -> Seen:
    _, whole, chunks = _streamed(model(stream_usage=True))
    return {"usage": _counts(whole.usage_metadata), "chunks_with_usage": chunks}


def _call(answer: AIMessage) -> Seen:
    (call,) = answer.tool_calls
    return {
        "call_id": call["id"],
        "name": call["name"].replace("Weather", "get_weather"),
        "arguments": call["args"],
    }


@feature("forced tool")
def forced_tool() -> Seen:
    answer = model(400).bind_tools([Weather], tool_choice="any", strict=True).invoke([ASKED])
    return {**_call(answer), "finish": answer.response_metadata["finish_reason"]}


def _loop(chat_model: ChatOpenAI) -> Seen:
    """The model's message goes back as it came, whole and put together from a stream."""
    forced = chat_model.bind_tools([Weather], tool_choice="Weather", parallel_tool_calls=False)
    pieces = list(forced.stream([ASKED]))
    joined = pieces[0]
    for piece in pieces[1:]:
        joined += piece  # type: ignore[assignment]
    echoes = {"invoke()": forced.invoke([ASKED]), "stream()": joined}
    seen = {}
    for how, message in echoes.items():
        assert isinstance(message, AIMessage)
        result = ToolMessage(SCENARIO["tool_result"], tool_call_id=message.tool_calls[0]["id"])
        answer = chat_model.bind_tools([Weather], tool_choice="none").invoke([ASKED, message, result])
        seen[how] = {name: _told(answer)[name] for name in ("text", "finish")}
    first = echoes["invoke()"]
    assert isinstance(first, AIMessage)
    return {"echoes": seen, **_call(first)}


@feature("tool loop")
def tool_loop() -> Seen:
    return _loop(model(100))


@feature("MCP tools")
def mcp_tools() -> Seen:
    tools = [
        {
            "type": "function",
            "function": {"name": t["name"], "description": t["description"], "parameters": t["inputSchema"]},
        }
        for t in SCENARIO["mcp_tools"]
    ]
    told = _told(model().bind_tools(tools).invoke(MESSAGES))
    return {"finish": told["finish"], "usage": told["usage"]}


def _structured(chat_model: ChatOpenAI, method: Any) -> Seen:
    value = chat_model.with_structured_output(Tree, method=method).invoke([FORM_ASKED])
    assert isinstance(value, Tree)
    return {"type": type(value).__name__, "value": value.model_dump()}


@feature("structured")
def structured() -> Seen:
    _structured(model(400), "function_calling")
    return _structured(model(400), "json_schema")


@feature("structured + tools")
def structured_with_tools() -> Seen:
    chain = model(400).with_structured_output(
        Tree, method="json_schema", tools=[Weather], include_raw=True, strict=True
    )
    answer: Any = chain.invoke([FORM_ASKED])
    if answer["raw"].tool_calls:
        return {"name": _call(answer["raw"])["name"]}
    return {"value": answer["parsed"].model_dump()}


@feature("embeddings: texts")
def embeddings_of_texts() -> Seen:
    embeddings = OpenAIEmbeddings(**access, model=EMBEDDING_MODEL, check_embedding_ctx_length=False)
    return {"vectors": embeddings.embed_documents(SCENARIO["texts"])}


@feature("embeddings: base64")
def embeddings_in_base64() -> Seen:
    embeddings = OpenAIEmbeddings(
        **access,
        model=EMBEDDING_MODEL,
        check_embedding_ctx_length=False,
        model_kwargs={"encoding_format": "base64"},
    )
    return {"vectors": embeddings.embed_documents(SCENARIO["texts"])}


@feature("embeddings: tokens")
def embeddings_of_tokens() -> Seen:
    """The class as it is: it sends ids of OpenAI's tokenizer."""
    return {"vectors": OpenAIEmbeddings(**access, model=EMBEDDING_MODEL).embed_documents(SCENARIO["texts"])}


@feature("responses")
def responses() -> Seen:
    answer = model(use_responses_api=True).invoke(MESSAGES)
    pieces, _, _ = _streamed(model(use_responses_api=True))
    assert len(pieces) > 1
    return {**_told(answer), "hidden": ["events"]}


@feature("responses: tool loop")
def responses_tool_loop() -> Seen:
    return _loop(model(100, use_responses_api=True))


@feature("responses: structured")
def responses_structured() -> Seen:
    return _structured(model(400, use_responses_api=True), "json_schema")


@feature("completions")
def completions() -> Seen:
    answers = OpenAI(**access, model=MODEL, max_tokens=4, temperature=0).generate(["A larch is", "An oak is"])
    return {"texts": [one[0].text for one in answers.generations], "hidden": ["token_logprobs"]}


@feature("errors")
def errors() -> Seen:
    stranger = model(api_key="eg-nobody-has-this-key")
    return {
        "classes": {
            "401": raised(openai.AuthenticationError, lambda: stranger.invoke(MESSAGES)),
            "404": raised(openai.NotFoundError, lambda: model(model="gpt-99").invoke(MESSAGES)),
            "400": raised(openai.BadRequestError, lambda: model(temperature=9).invoke(MESSAGES)),
            "context": raised(ContextOverflowError, lambda: model().invoke(LONG_TEXT)),
        }
    }


if __name__ == "__main__":
    run(
        "langchain-openai",
        "openai",
        limits={
            "messages": "this package speaks OpenAI's protocol",
            "messages: tool loop": "this package speaks OpenAI's protocol",
            "batches": "has no words for batches",
        },
    )
