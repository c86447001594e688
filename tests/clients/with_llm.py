"""`llm`: the models that its `extra-openai-models.yaml` names, through its Python interface."""

from __future__ import annotations

import os
from typing import Any

import llm
import openai
from llm.default_plugins.openai_models import Chat, OpenAIEmbeddingModel, Responses

from tests.clients.forms import Tree, Weather
from tests.clients.program import (
    API_KEY,
    API_URL,
    EMBEDDING_MODEL,
    LONG_TEXT,
    MODEL,
    SCENARIO,
    ClientLimitError,
    Seen,
    feature,
    raised,
    run,
)

BRIEF = {"max_tokens": SCENARIO["max_tokens"], "temperature": 0}


def chat_model(name: str = MODEL, kind: Any = Chat) -> Any:
    """A model as the file of further models describes it."""
    return kind(model_id=name, model_name=name, api_base=API_URL, supports_schema=True, supports_tools=True)


def _ask(model: Any, stream: bool = False, **given: Any) -> Any:
    prompt = given.pop("prompt", SCENARIO["question"])
    return model.prompt(prompt, system=SCENARIO["system"], stream=stream, key=API_KEY, **{**BRIEF, **given})


def _told(answer: Any) -> Seen:
    text, used = answer.text(), answer.usage()
    return {
        "text": text,
        "usage": [used.input, used.output, used.input + used.output],
        "hidden": ["id", "finish"],
    }


@feature("chat")
def chat() -> Seen:
    return _told(_ask(chat_model()))


@feature("stream")
def stream() -> Seen:
    pieces = [piece for piece in _ask(chat_model(), stream=True) if piece]
    return {"pieces": len(pieces), "text": "".join(pieces), "hidden": ["finish"]}


@feature("usage in stream")
def usage_in_stream() -> Seen:
    return {"usage": _told(_ask(chat_model(), stream=True))["usage"]}


def _loop(model: Any) -> Seen:
    """A conversation with tools: `llm` cannot force a call, so one is put into the history that it sends."""
    weather = llm.Tool(
        name="get_weather",
        description="Weather",
        input_schema=Weather.model_json_schema(),
        implementation=str,
    )
    arguments = {"city": "Paris", "days": 3, "unit": "C", "code": 1}
    conversation = model.conversation()
    first = conversation.prompt(
        SCENARIO["tool_question"], tools=[weather], stream=False, key=API_KEY, **BRIEF
    )
    first_text = first.text() or "(a call)"
    result = llm.ToolResult(name="get_weather", output=SCENARIO["tool_result"], tool_call_id="call_1")
    first.add_tool_call(llm.models.ToolCall(name="get_weather", arguments=arguments, tool_call_id="call_1"))
    second = conversation.prompt(
        "", tools=[weather], tool_results=[result], stream=False, key=API_KEY, **BRIEF
    )
    return {
        "echoes": {
            "the first turn": {"text": first_text, "hidden": ["finish"]},
            "with a result": {"text": second.text() or "(a call)", "hidden": ["finish"]},
        }
    }


@feature("tool loop")
def tool_loop() -> Seen:
    return _loop(chat_model())


@feature("MCP tools")
def mcp_tools() -> Seen:
    tools = [
        llm.Tool(
            name=t["name"], description=t["description"], input_schema=t["inputSchema"], implementation=str
        )
        for t in SCENARIO["mcp_tools"]
    ]
    return {"usage": _told(_ask(chat_model(), tools=tools))["usage"], "hidden": ["finish"]}


def _structured(model: Any) -> Seen:
    text = _ask(model, prompt=SCENARIO["form_question"], schema=Tree, max_tokens=400).text()
    return {"value": Tree.model_validate_json(text).model_dump()}


@feature("structured")
def structured() -> Seen:
    return _structured(chat_model())


@feature("structured + tools")
def structured_with_tools() -> Seen:
    weather = llm.Tool(
        name="get_weather",
        description="Weather",
        input_schema=Weather.model_json_schema(),
        implementation=str,
    )
    answer = _ask(
        chat_model(), prompt=SCENARIO["form_question"], schema=Tree, tools=[weather], max_tokens=400
    )
    text = answer.text()
    if answer.tool_calls():
        return {"name": answer.tool_calls()[0].name}
    return {"value": Tree.model_validate_json(text).model_dump()}


@feature("embeddings: texts")
def embeddings_of_texts() -> Seen:
    """Its OpenAI embedding models take the address from OpenAI's own variable alone."""
    os.environ["OPENAI_BASE_URL"] = API_URL
    try:
        model = OpenAIEmbeddingModel(EMBEDDING_MODEL, EMBEDDING_MODEL)
        return {"vectors": [list(v) for v in model.embed_batch(SCENARIO["texts"], key=API_KEY)]}
    finally:
        del os.environ["OPENAI_BASE_URL"]


@feature("responses")
def responses() -> Seen:
    pieces = [piece for piece in _ask(chat_model(kind=Responses), stream=True) if piece]
    assert len(pieces) > 1, f"{len(pieces)} pieces"
    return {**_told(_ask(chat_model(kind=Responses))), "hidden": ["id", "finish", "events"]}


@feature("responses: structured")
def responses_structured() -> Seen:
    return _structured(chat_model(kind=Responses))


@feature("completions")
def completions() -> Seen:
    raise ClientLimitError("its completion models take one prompt and hide scores")


@feature("errors")
def errors() -> Seen:
    def refused(**given: Any) -> Any:
        return lambda: _ask(chat_model(), **given).text()

    def stranger() -> str:
        return str(
            chat_model().prompt(SCENARIO["question"], key="eg-nobody-has-this-key", stream=False).text()
        )

    return {
        "classes": {
            "401": raised(openai.AuthenticationError, stranger),
            "404": raised(openai.NotFoundError, lambda: _ask(chat_model("gpt-99")).text()),
            "400": raised(openai.BadRequestError, refused(max_tokens=-1)),
            "context": raised(openai.BadRequestError, refused(prompt=LONG_TEXT)),
        }
    }


if __name__ == "__main__":
    run(
        "llm",
        "openai",
        limits={
            "forced tool": "cannot force a call",
            "responses: tool loop": "cannot force a call",
            "embeddings: base64": "leaves the encoding to OpenAI's client",
            "embeddings: tokens": "sends texts only",
            "messages": "speaks OpenAI's protocol",
            "messages: tool loop": "speaks OpenAI's protocol",
            "batches": "has no batches",
        },
    )
