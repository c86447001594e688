"""What `/v1/messages` takes, what the model is asked for it, and the neighbour of each that is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.front_door import MODEL, Door
from tests.support.messages_api import ROUTE, USE, message, result, said, tool, turns, with_tools

OBJECT = {"type": "object", "properties": {"name": {"type": "string"}}}


@dataclass(frozen=True)
class Pair:
    """A request that is taken, with what a chat has for it, and its neighbour that is refused in words."""

    taken: dict[str, Any]
    asked: dict[str, Any]
    refused: dict[str, Any]
    words: str
    gone: set[str] = field(default_factory=set)  # what the model is not told


HI = {"role": "user", "content": "Hi"}
PAIRS = {
    "a system prompt": Pair(
        message(system="Be brief."),
        turns({"role": "system", "content": "Be brief."}, HI),
        message(system=7),
        "'system': Input should be a string or a list of content blocks",
    ),
    "system blocks, cached": Pair(
        message(system=[said("A.") | {"cache_control": {"type": "ephemeral"}}, said("B.")]),
        turns({"role": "system", "content": [said("A."), said("B.")]}, HI),
        message(system=[{"type": "image", "source": {}}]),
        "'system[0]' is not supported: this model reads text only, no 'image'",
    ),
    "a block of text": Pair(
        message(messages=[{"role": "user", "content": [said("Hi") | {"citations": None}]}]),
        turns(HI),
        message(messages=[{"role": "user", "content": [{"type": "text"}]}]),
        "'messages[0].content[0].text'",
    ),
    "the same role twice": Pair(
        message(messages=[HI, {"role": "user", "content": "there"}]),
        turns({"role": "user", "content": [said("Hi"), said("there")]}),
        message(messages=[HI, {"role": "tool", "content": "there"}]),
        "'messages[1].role'",
    ),
    "a system message in the middle": Pair(
        message(messages=[HI, {"role": "system", "content": "Be brief."}]),
        turns(HI, {"role": "system", "content": "Be brief."}),
        message(messages=[HI, {"role": "system", "content": [USE]}]),
        "a message of role 'system' has no 'tool_use'",
    ),
    "thinking put back": Pair(
        message(
            messages=[
                HI,
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": "x", "signature": "y"}, said("Ho")],
                },
                HI,
            ]
        ),
        turns(HI, {"role": "assistant", "content": "Ho"}, HI),
        message(messages=[HI, {"role": "assistant", "content": "Ho"}]),
        "the last message must not be the assistant's",
    ),
    "a tool that was called": Pair(
        with_tools(messages=[HI, {"role": "assistant", "content": [said("So."), USE]}, result("12 C")]),
        turns(
            HI,
            {
                "role": "assistant",
                "content": "So.",
                "tool_calls": [
                    {
                        "id": "toolu_1",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city": "Köln"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "12 C"},
        ),
        with_tools(messages=[HI, {"role": "assistant", "content": [{**USE, "input": "Köln"}]}, HI]),
        "'messages[1].content[0].input'",
    ),
    "results stand before the text beside them": Pair(
        with_tools(
            messages=[
                HI,
                {"role": "assistant", "content": [USE]},
                {"role": "user", "content": [said("And?"), *result([said("1"), said("2")])["content"]]},
            ]
        ),
        {},
        with_tools(messages=[HI, {"role": "assistant", "content": result("x")["content"]}, HI]),
        "a message of role 'assistant' has no 'tool_result'",
    ),
    "a result of a call": Pair(
        with_tools(messages=[HI, {"role": "assistant", "content": [USE]}, result(None)]),
        {},
        with_tools(messages=[HI, result("12 C"), {"role": "assistant", "content": [USE]}, HI]),
        "message 1 has the result of a call that no earlier message made",
    ),
    "a tool that failed": Pair(
        with_tools(messages=[HI, {"role": "assistant", "content": [USE]}, result("no net", is_error=True)]),
        {},
        with_tools(
            messages=[HI, {"role": "assistant", "content": [USE]}, result([{"type": "image", "source": {}}])]
        ),
        "'messages[2].content[0].content[0]' is not supported: this model reads text only, no 'image'",
    ),
    "a tool's schema": Pair(
        message(tools=[tool(cache_control={"type": "ephemeral"}, input_examples=[{"city": "Bonn"}])]),
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "get_weather",
                        "description": "d",
                        "parameters": tool()["input_schema"],
                    },
                }
            ]
        },
        message(tools=[tool(input_schema={"type": "string"})]),
        "'tools[0].input_schema': the schema of a function's parameters must have the type 'object'",
    ),
    "a custom tool": Pair(
        message(tools=[tool(type="custom")]),
        {},
        message(tools=[{"type": "web_search_20260318", "name": "web_search"}]),
        "'tools[0]' is not supported: there are no 'web_search_20260318' tools",
    ),
    "two tools": Pair(
        message(tools=[tool(), tool(name="other")]),
        {},
        message(tools=[tool(), tool()]),
        "'tools': two tools have the same name",
    ),
    "a strict tool": Pair(
        message(
            tools=[tool(strict=True, input_schema={**tool()["input_schema"], "additionalProperties": False})]
        ),
        {},
        message(tools=[tool(strict=True, input_schema={"type": "object", "not": {}})]),
        "the schema keyword 'not' is not supported",
    ),
    "no tools": Pair(
        message(tools=[], tool_choice={"type": "auto"}),
        {},
        message(tools=[], tool_choice={"type": "any"}),
        "'tool_choice': needs 'tools' to choose from",
        gone={"tools", "tool_choice"},
    ),
    "any tool, one at a time": Pair(
        with_tools(tool_choice={"type": "any", "disable_parallel_tool_use": True}),
        {"tool_choice": "required", "parallel_tool_calls": False},
        with_tools(tool_choice={"type": "required"}),
        "'tool_choice.type'",
    ),
    "one tool": Pair(
        with_tools(tool_choice={"type": "tool", "name": "get_weather"}),
        {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
        with_tools(tool_choice={"type": "tool", "name": "get_whether"}),
        "there is no tool 'get_whether' among 'tools'",
    ),
    "no tool now": Pair(
        with_tools(tool_choice={"type": "none"}),
        {"tool_choice": "none"},
        with_tools(tool_choice={"type": "none", "name": "get_weather"}),
        "the type 'tool', and only that, needs a 'name'",
    ),
    "a limit": Pair(message(max_tokens=7), {"max_tokens": 7}, message(max_tokens=None), "'max_tokens'"),
    "a limit that is one": Pair(message(max_tokens=1), {}, message(max_tokens=0), "'max_tokens'"),
    "stop sequences": Pair(
        message(stop_sequences=["\n\nHuman:", "END"]),
        {"stop": ["\n\nHuman:", "END"]},
        message(stop_sequences=list("abcde")),
        "'stop_sequences'",
    ),
    "sampling": Pair(
        message(temperature=1, top_p=0.5),
        {"temperature": 1.0, "top_p": 0.5},
        message(temperature=1.5),
        "'temperature'",
    ),
    "a sampler left open": Pair(
        message(top_k=None),
        {},
        message(top_k=5),
        "'top_k' is not supported: sampling is set by temperature and top_p",
        gone={"top_k"},
    ),
    "a user": Pair(
        message(metadata={"user_id": "u-7"}), {"user": "u-7"}, message(metadata={"user_id": 7}), "'metadata"
    ),
    "a form": Pair(
        message(output_config={"format": {"type": "json_schema", "schema": OBJECT}, "effort": "high"}),
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": OBJECT},
            }
        },
        message(output_config={"format": {"type": "json_object", "schema": OBJECT}}),
        "'output_config.format.type'",
    ),
    "what changes nothing": Pair(
        message(
            thinking={"type": "enabled", "budget_tokens": 2048},
            service_tier="auto",
            cache_control={"type": "ephemeral"},
            speed="standard",
            diagnostics={"previous_message_id": None},
            context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            mcp_servers=[],
            container=None,
            system=None,
        ),
        {},
        message(context_management={"edits": [{"type": "compact_20260112"}]}),
        "'context_management' is not supported",
        gone={"thinking", "service_tier", "cache_control", "speed", "mcp_servers", "context_management"},
    ),
    "no servers": Pair(
        message(mcp_servers=None),
        {},
        message(mcp_servers=[{"type": "url", "url": "https://e.example"}]),
        "'mcp_servers' is not supported",
    ),
    "no other fields": Pair(message(), {}, message(max_completion_tokens=5), "'max_completion_tokens'"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_taken_reaches_the_model_as_a_chat(door: Door, name: str) -> None:
    pair = PAIRS[name]
    reply, body = door.ask(pair.taken, route=ROUTE)
    assert reply.status == 200, body
    asked = json.loads(door.sagemaker.calls[-1][1])
    assert {key: asked.get(key) for key in pair.asked} == pair.asked
    assert not pair.gone & set(asked)


@pytest.mark.parametrize("name", PAIRS)
def test_its_neighbour_is_refused_in_words(door: Door, name: str) -> None:
    reply, body = door.ask(PAIRS[name].refused, route=ROUTE)
    refused = json.loads(body)
    assert (reply.status, refused["type"], refused["error"]["type"]) == (
        400,
        "error",
        "invalid_request_error",
    )
    assert PAIRS[name].words in refused["error"]["message"]
    assert door.sagemaker.calls == []


def test_results_stand_right_behind_their_calls_and_say_that_they_failed(door: Door) -> None:
    door.ask(PAIRS["results stand before the text beside them"].taken, route=ROUTE)
    door.ask(PAIRS["a tool that failed"].taken, route=ROUTE)
    ordered, failed = (json.loads(body)["messages"] for _, body in door.sagemaker.calls)
    assert [turn["role"] for turn in ordered] == ["user", "assistant", "tool", "user"]
    assert [ordered[2]["content"], ordered[3]["content"]] == [[said("1"), said("2")], "And?"]
    assert failed[-1]["content"] == "Error: no net"


def test_the_container_is_asked_for_a_chat_and_told_of_no_other_route(door: Door) -> None:
    door.ask(message(), route=ROUTE, headers={"anthropic-version": "2023-06-01", "anthropic-beta": "x,y"})
    headers, body = door.sagemaker.calls[-1]
    assert "route=" not in headers["x-amzn-sagemaker-custom-attributes"]
    assert json.loads(body)["model"] == MODEL
