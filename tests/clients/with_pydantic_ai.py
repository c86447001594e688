"""Pydantic AI: its chat model, its default (Responses), its Anthropic model, agents and single requests."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from anthropic import AsyncAnthropic
from pydantic_ai import (
    Agent,
    DeferredToolRequests,
    Embedder,
    ExternalToolset,
    ModelAuthenticationError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelRequest,
    ModelResponse,
    NativeOutput,
    ToolCallPart,
    ToolDefinition,
    ToolOutput,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.direct import model_request_batch, model_request_stream_sync, model_request_sync
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.batch import BatchRequest
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from tests.clients.forms import Tree, Weather
from tests.clients.program import (
    API_KEY,
    API_URL,
    EMBEDDING_MODEL,
    LONG_TEXT,
    MODEL,
    SCENARIO,
    Seen,
    feature,
    raised,
    run,
)

provider = OpenAIProvider(base_url=API_URL, api_key=API_KEY)
chat_model = OpenAIChatModel(MODEL, provider=provider)
responses_model = OpenAIResponsesModel(MODEL, provider=provider)
BRIEF = ModelSettings(max_tokens=SCENARIO["max_tokens"], temperature=0)
LONG = ModelSettings(max_tokens=400, temperature=0)
ASKED = ModelRequest.user_text_prompt(SCENARIO["tool_question"])
WEATHER = ToolDefinition(
    name="get_weather", description="Weather", parameters_json_schema=Weather.model_json_schema()
)


def anthropic_model() -> AnthropicModel:
    """The model that speaks Anthropic's protocol to the same address."""
    base_url = API_URL.removesuffix("/v1")
    # By itself this client sends the key as `Authorization: Bearer`, which the route does not read.
    named = {"X-Api-Key": API_KEY}
    client = AsyncAnthropic(api_key=API_KEY, base_url=base_url, default_headers=named, max_retries=0)
    return AnthropicModel(MODEL, provider=AnthropicProvider(anthropic_client=client))


def agent(model: Model, settings: ModelSettings = BRIEF, **fields: Any) -> Agent[None, Any]:
    """An agent that answers briefly."""
    return Agent(model, instructions=SCENARIO["system"], model_settings=settings, **fields)


def _told(answer: ModelResponse) -> Seen:
    used = answer.usage
    return {
        "id": answer.provider_response_id,
        "text": answer.text,
        "finish": {"tool_call": "tool_calls"}.get(str(answer.finish_reason), answer.finish_reason),
        "usage": [used.input_tokens, used.output_tokens, used.input_tokens + used.output_tokens],
    }


def _answer(model: Model) -> Seen:
    return _told(agent(model).run_sync(SCENARIO["question"]).response)


def _streamed(model: Model) -> tuple[list[str], ModelResponse]:
    request = ModelRequest([UserPromptPart(SCENARIO["question"])], instructions=SCENARIO["system"])
    with model_request_stream_sync(model, [request], model_settings=BRIEF) as stream:
        pieces = [
            text
            for event in stream
            if (text := getattr(getattr(event, "delta", getattr(event, "part", None)), "content_delta", None))
        ]
        return pieces, stream.response


@feature("chat")
def chat() -> Seen:
    return _answer(chat_model)


@feature("stream")
def stream() -> Seen:
    pieces, whole = _streamed(chat_model)
    return {"pieces": len(pieces), "text": whole.text, "finish": whole.finish_reason}


@feature("usage in stream")
def usage_in_stream() -> Seen:
    _, whole = _streamed(chat_model)
    used = whole.usage
    return {"usage": [used.input_tokens, used.output_tokens, used.input_tokens + used.output_tokens]}


def _forced(model: Model) -> ModelResponse:
    return model_request_sync(
        model,
        [ASKED],
        model_settings=ModelSettings(**LONG, tool_choice=["get_weather"]),
        model_request_parameters=ModelRequestParameters(function_tools=[WEATHER]),
    )


def _call(answer: ModelResponse) -> ToolCallPart:
    (call,) = [part for part in answer.parts if isinstance(part, ToolCallPart)]
    return call


def _described(answer: ModelResponse) -> Seen:
    call = _call(answer)
    return {"call_id": call.tool_call_id, "name": call.tool_name, "arguments": call.args_as_dict()}


@feature("forced tool")
def forced_tool() -> Seen:
    agent(chat_model, LONG, output_type=ToolOutput(Tree)).run_sync(SCENARIO["form_question"])
    answer = _forced(chat_model)
    return {**_described(answer), "finish": _told(answer)["finish"]}


def _loop(model: Model) -> Seen:
    """The response goes back, then all of it as a history read from JSON."""
    first = _forced(model)
    returned = ToolReturnPart("get_weather", SCENARIO["tool_result"], tool_call_id=_call(first).tool_call_id)
    second = model_request_sync(
        model,
        [ASKED, first, ModelRequest(parts=[returned])],
        model_settings=ModelSettings(**BRIEF, tool_choice="none"),
        model_request_parameters=ModelRequestParameters(function_tools=[WEATHER]),
    )
    history = [ASKED, first, ModelRequest(parts=[returned]), second]
    third = agent(model).run_sync("And tomorrow?", message_history=history).response
    echoes = {"response": second, "message_history": third}
    told = {how: _told(answer) for how, answer in echoes.items()}
    return {
        **_described(first),
        "echoes": {how: {"text": one["text"], "finish": one["finish"]} for how, one in told.items()},
    }


@feature("tool loop")
def tool_loop() -> Seen:
    return _loop(chat_model)


@feature("MCP tools")
def mcp_tools() -> Seen:
    tools = [
        ToolDefinition(name=t["name"], description=t["description"], parameters_json_schema=t["inputSchema"])
        for t in SCENARIO["mcp_tools"]
    ]
    toolset: ExternalToolset[None] = ExternalToolset(tools)
    told = _told(
        agent(chat_model, toolsets=[toolset], output_type=[str, DeferredToolRequests])
        .run_sync(SCENARIO["question"])
        .response
    )
    return {"finish": told["finish"], "usage": told["usage"]}


def _structured(model: Model) -> Seen:
    value = agent(model, LONG, output_type=NativeOutput(Tree)).run_sync(SCENARIO["form_question"]).output
    return {"type": type(value).__name__, "value": value.model_dump()}


@feature("structured")
def structured() -> Seen:
    return _structured(chat_model)


@feature("structured + tools")
def structured_with_tools() -> Seen:
    """One request as an agent with both sends it: what the model chooses is its own affair."""
    called = []

    def get_weather(weather: Weather) -> str:
        called.append(weather)
        return str(SCENARIO["tool_result"])

    made = agent(chat_model, LONG, output_type=NativeOutput(Tree), tools=[get_weather])
    value = made.run_sync(SCENARIO["form_question"]).output
    return {"value": value.model_dump()}


@feature("embeddings: texts")
def embeddings_of_texts() -> Seen:
    result = Embedder(OpenAIEmbeddingModel(EMBEDDING_MODEL, provider=provider)).embed_documents_sync(
        SCENARIO["texts"]
    )
    return {
        "vectors": [list(vector) for vector in result.embeddings],
        "prompt_tokens": result.usage.input_tokens,
    }


@feature("responses")
def responses() -> Seen:
    pieces, _ = _streamed(responses_model)
    assert len(pieces) > 1, f"{len(pieces)} pieces"
    return {**_answer(responses_model), "hidden": ["events"]}


@feature("responses: tool loop")
def responses_tool_loop() -> Seen:
    return _loop(responses_model)


@feature("responses: structured")
def responses_structured() -> Seen:
    return _structured(responses_model)


@feature("messages")
def messages() -> Seen:
    pieces, _ = _streamed(anthropic_model())
    assert len(pieces) > 1, f"{len(pieces)} pieces"
    return {**_answer(anthropic_model()), "hidden": ["events"]}


@feature("messages: tool loop")
def messages_tool_loop() -> Seen:
    return _loop(anthropic_model())


@feature("batches")
def batches() -> Seen:
    question = [ModelRequest.user_text_prompt(SCENARIO["question"])]
    asked = [BatchRequest(custom_id=f"r{n}", messages=question, model_settings=BRIEF) for n in (1, 2)]
    own_loop = OpenAIResponsesModel(MODEL, provider=OpenAIProvider(base_url=API_URL, api_key=API_KEY))
    answers = asyncio.run(model_request_batch(own_loop, asked, poll_interval=timedelta(seconds=1)))
    texts = [answer.text for answer in answers if isinstance(answer, ModelResponse)]
    assert all(texts), answers
    return {
        "status": "completed" if len(texts) == 2 else str(answers),
        "results": {f"r{number}": 200 for number, _ in enumerate(texts, 1)},
        "listed": True,
        "file": True,
    }


@feature("errors")
def errors() -> Seen:
    stranger = OpenAIProvider(base_url=API_URL, api_key="eg-nobody-has-this-key")
    wrong = OpenAIChatModel(MODEL, provider=stranger)
    question = SCENARIO["question"]
    hot = ModelSettings(temperature=9, max_tokens=2)
    return {
        "classes": {
            "401": raised(ModelAuthenticationError, lambda: agent(wrong).run_sync(question)),
            "404": raised(
                ModelNotFoundError,
                lambda: agent(OpenAIChatModel("gpt-99", provider=provider)).run_sync(question),
            ),
            "400": raised(ModelHTTPError, lambda: agent(chat_model, hot).run_sync(question)),
            "context": raised(ModelContextWindowExceededError, lambda: agent(chat_model).run_sync(LONG_TEXT)),
        }
    }


if __name__ == "__main__":
    run(
        "pydantic-ai-slim",
        "openai",
        "anthropic",
        limits={
            "embeddings: base64": "leaves the encoding to OpenAI's client",
            "embeddings: tokens": "sends texts only",
            "completions": "has no text completions",
        },
    )
