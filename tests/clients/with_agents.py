"""OpenAI's Agents SDK: its chat model and its default (Responses), with the loop that it runs itself."""

from __future__ import annotations

from typing import Any

import openai
from agents import (
    Agent,
    FunctionTool,
    ItemHelpers,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    RunResult,
    function_tool,
    set_tracing_disabled,
)
from agents.items import ToolCallItem

from tests.clients.forms import Tree
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

set_tracing_disabled(True)
client = openai.AsyncOpenAI(base_url=API_URL, api_key=API_KEY, max_retries=0, timeout=PATIENCE_SECONDS)
CHAT = OpenAIChatCompletionsModel(MODEL, client)
RESPONSES = OpenAIResponsesModel(MODEL, client)
called: list[dict[str, Any]] = []


@function_tool
def get_weather(city: str, days: int, unit: str, code: int | str) -> str:
    """Weather of the coming days."""
    called.append({"city": city, "days": days, "unit": "C" if unit != "F" else "F", "code": code})
    return str(SCENARIO["tool_result"])


def agent(model: Any, max_tokens: int = 400, *, choice: str | None = None, **fields: Any) -> Agent[Any]:
    """An agent with room to end: this SDK takes a streamed response that was cut for a failure."""
    settings = ModelSettings(max_tokens=max_tokens, temperature=0, tool_choice=choice, include_usage=True)
    return Agent("Forester", instructions=SCENARIO["system"], model=model, model_settings=settings, **fields)


def _told(result: RunResult) -> Seen:
    used = result.context_wrapper.usage
    return {
        "text": ItemHelpers.text_message_outputs(result.new_items),
        "usage": [used.input_tokens, used.output_tokens, used.total_tokens],
        "hidden": ["id", "finish"],
    }


def _streamed(model: Any) -> tuple[list[str], list[str], Any]:
    async def collect() -> tuple[list[str], list[str], Any]:
        result = Runner.run_streamed(agent(model), SCENARIO["question"])
        events, pieces = [], []
        async for event in result.stream_events():
            if event.type == "raw_response_event":
                events.append(event.data.type)
                if event.data.type == "response.output_text.delta":
                    pieces.append(event.data.delta)
        return events, pieces, result.context_wrapper.usage

    return loop.run_until_complete(collect())


@feature("chat")
def chat() -> Seen:
    return _told(Runner.run_sync(agent(CHAT), SCENARIO["question"]))


@feature("stream")
def stream() -> Seen:
    _, pieces, _ = _streamed(CHAT)
    return {"pieces": len(pieces), "text": "".join(pieces), "hidden": ["finish"]}


@feature("usage in stream")
def usage_in_stream() -> Seen:
    _, _, used = _streamed(CHAT)
    return {"usage": [used.input_tokens, used.output_tokens, used.total_tokens]}


def _loop(model: Any) -> Seen:
    """The first turn is forced. The SDK puts call and result back by itself, then the whole run."""
    called.clear()
    made = agent(model, choice="get_weather", tools=[get_weather])
    result = Runner.run_sync(made, SCENARIO["tool_question"], max_turns=6, run_config=RunConfig())
    (first, *_) = [item for item in result.new_items if isinstance(item, ToolCallItem)]
    turns = result.to_input_list()
    after = Runner.run_sync(agent(model), [*turns, {"role": "user", "content": "And tomorrow?"}])
    call: Any = first.raw_item
    return {
        "call_id": call.call_id,
        "name": call.name,
        "arguments": called[0],
        "hidden": ["finish"],
        "echoes": {
            "the SDK's loop": {"text": str(result.final_output), "hidden": ["finish"]},
            "to_input_list()": {"text": str(after.final_output), "hidden": ["finish"]},
        },
    }


@feature("forced tool")
def forced_tool() -> Seen:
    called.clear()
    made = agent(CHAT, choice="get_weather", tools=[get_weather], tool_use_behavior="stop_on_first_tool")
    result = Runner.run_sync(made, SCENARIO["tool_question"])
    (first, *_) = [item for item in result.new_items if isinstance(item, ToolCallItem)]
    call: Any = first.raw_item
    assert result.final_output == SCENARIO["tool_result"]
    return {"call_id": call.call_id, "name": call.name, "arguments": called[0], "hidden": ["finish"]}


@feature("tool loop")
def tool_loop() -> Seen:
    return _loop(CHAT)


@feature("MCP tools")
def mcp_tools() -> Seen:
    async def invoked(_: Any, given: str) -> str:
        return str(SCENARIO["tool_result"])

    tools = [
        FunctionTool(
            name=t["name"],
            description=t["description"],
            params_json_schema=dict(t["inputSchema"]),
            on_invoke_tool=invoked,
            strict_json_schema=False,
        )
        for t in SCENARIO["mcp_tools"]
    ]
    told = _told(Runner.run_sync(agent(CHAT, tools=tools), SCENARIO["question"]))
    return {"usage": told["usage"], "hidden": ["finish"]}


def _structured(model: Any, **fields: Any) -> Seen:
    value = Runner.run_sync(agent(model, output_type=Tree, **fields), SCENARIO["form_question"]).final_output
    return {"type": type(value).__name__, "value": value.model_dump()}


@feature("structured")
def structured() -> Seen:
    return _structured(CHAT)


@feature("structured + tools")
def structured_with_tools() -> Seen:
    return _structured(CHAT, tools=[get_weather])


@feature("responses")
def responses() -> Seen:
    events, _, _ = _streamed(RESPONSES)
    return {**_told(Runner.run_sync(agent(RESPONSES), SCENARIO["question"])), "events": events}


@feature("responses: tool loop")
def responses_tool_loop() -> Seen:
    return _loop(RESPONSES)


@feature("responses: structured")
def responses_structured() -> Seen:
    return _structured(RESPONSES)


@feature("errors")
def errors() -> Seen:
    stranger = openai.AsyncOpenAI(base_url=API_URL, api_key="eg-nobody-has-this-key", max_retries=0)
    question = SCENARIO["question"]
    hot = Agent("Hot", model=CHAT, model_settings=ModelSettings(temperature=9))

    def asked(model: Any, text: str = question) -> Any:
        return Runner.run_sync(agent(model), text)

    return {
        "classes": {
            "401": raised(
                openai.AuthenticationError, lambda: asked(OpenAIChatCompletionsModel(MODEL, stranger))
            ),
            "404": raised(openai.NotFoundError, lambda: asked(OpenAIChatCompletionsModel("gpt-99", client))),
            "400": raised(openai.BadRequestError, lambda: Runner.run_sync(hot, question)),
            "context": raised(openai.BadRequestError, lambda: asked(CHAT, LONG_TEXT)),
        }
    }


if __name__ == "__main__":
    import asyncio

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    models_only = "an agent's models chat: no embeddings, completions or batches"
    nothing = ("embeddings: texts", "embeddings: base64", "embeddings: tokens", "completions", "batches")
    protocol = "speaks OpenAI's protocol"
    run(
        "openai-agents",
        "openai",
        limits={
            **dict.fromkeys(nothing, models_only),
            **dict.fromkeys(("messages", "messages: tool loop"), protocol),
        },
    )
