"""What clients send to `/v1/responses`, each beside a counterpart that stays refused for a reason."""

from __future__ import annotations

from typing import Any

from tests.support.client_requests import Pair

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
UNSUPPORTED = "unsupported_parameter"
INVALID = "invalid_value"


def function(name: str = "get_weather", **fields: Any) -> dict[str, Any]:
    """A function tool in this protocol's flat form."""
    return {"type": "function", "name": name, "description": "d", "parameters": CITY, **fields}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    """A caller's turn of content parts."""
    return {"role": "user", "content": list(parts)}


def allowed(*names: str, mode: str = "auto") -> dict[str, Any]:
    """The choice of some functions."""
    return {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": n} for n in names]}


SAID = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hi.", "annotations": [], "logprobs": []}],
    "phase": None,
}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city": "Paris"}',
}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "12 C"}
ASK = {"role": "user", "content": "Weather?"}
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "x"}
ONE_TOOL = {"input": "Weather?", "tools": [function()]}
SCHEMA = {"type": "json_schema", "name": "p", "schema": CITY}
STRICT = {**SCHEMA, "strict": True}


PAIRS: dict[str, Pair] = {
    "a text": Pair({"input": "Hi"}, {"input": 1}, "input", INVALID, "a string or a list of items"),
    "an input": Pair({"input": [ASK]}, {}, "input", "missing_parameter", "'input'"),
    "items": Pair({"input": [ASK]}, {"input": []}, "input", INVALID, "at least 1"),
    "parts": Pair(
        {"input": [user({"type": "input_text", "text": "Hi", "prompt_cache_breakpoint": None})]},
        {"input": [user({"type": "input_image", "image_url": "https://x.org/a.png", "detail": "auto"})]},
        "input[0].content[0]",
        UNSUPPORTED,
        "reads text only, no 'input_image'",
    ),
    "a part that must hold text": Pair(
        {"input": [user({"type": "input_text", "text": ""})]},
        {"input": [user({"type": "input_text"})]},
        "input[0].content[0].text",
        "missing_parameter",
        "",
    ),
    "an answer put back": Pair(
        {"input": [ASK, REASONING, SAID, ASK]},
        {"input": [ASK, {**SAID, "role": "critic"}]},
        "input[1].role",
        INVALID,
        "'assistant'",
    ),
    "a refusal put back": Pair(
        {"input": [ASK, {**SAID, "content": [{"type": "refusal", "refusal": "No."}]}, ASK]},
        {"input": [ASK, {**SAID, "content": [{"type": "refusal", "refusal": 5}]}, ASK]},
        "input[1].content[0].text",
        INVALID,
        "string",
    ),
    "notes only": Pair(
        {"input": [REASONING, ASK]}, {"input": [REASONING]}, "input", INVALID, "nothing to answer"
    ),
    "a call and its output": Pair(
        {"input": [ASK, CALL, RESULT], "tools": [function()]},
        {"input": [ASK, RESULT], "tools": [function()]},
        "input",
        INVALID,
        "before its function_call",
    ),
    "an output of parts": Pair(
        {"input": [ASK, CALL, {**RESULT, "output": [{"type": "input_text", "text": "12 C"}]}]},
        {"input": [ASK, CALL, {**RESULT, "output": {"t": 12}}]},
        "input[2].output",
        INVALID,
        "a string or a list",
    ),
    "items of hosted tools": Pair(
        {"input": [ASK, SAID, ASK]},
        {"input": [ASK, {"type": "web_search_call", "id": "ws_1", "status": "completed"}]},
        "input[1]",
        UNSUPPORTED,
        "no items of the type 'web_search_call'",
    ),
    "an item without a kind": Pair(
        {"input": [ASK]}, {"input": [{"text": "Hi"}]}, "input[0]", INVALID, "item"
    ),
    "function tools": Pair(
        ONE_TOOL | {"tools": [function(strict=None, defer_loading=False)]},
        {"input": "x", "tools": [{"type": "web_search"}]},
        "tools[0]",
        UNSUPPORTED,
        "no 'web_search'",
    ),
    "MCP servers": Pair(
        ONE_TOOL,
        {"input": "x", "tools": [function(), {"type": "mcp", "server_label": "a", "server_url": "https://x.org"}]},
        "tools[1]",
        UNSUPPORTED,
        "no 'mcp'",
    ),
    "the flat form": Pair(
        ONE_TOOL,
        {"input": "x", "tools": [{"type": "function", "function": {"name": "a"}}]},
        "tools[0].name",
        "missing_parameter",
        "",
    ),
    "no tools": Pair(
        {"input": "x", "tools": [], "tool_choice": "auto"},
        {"input": "x", "tools": [], "tool_choice": "required"},
        "tool_choice",
        INVALID,
        "needs 'tools'",
    ),
    "names that differ": Pair(
        {"input": "x", "tools": [function("a"), function("b")]},
        {"input": "x", "tools": [function("a"), function("a")]},
        "tools",
        INVALID,
        "same name",
    ),
    "any schema": Pair(
        ONE_TOOL | {"tools": [function(parameters={"type": "object", "properties": {"a": {"not": {}}}})]},
        ONE_TOOL | {"tools": [function(strict=True, parameters={"type": "object", "not": {}})]},
        "tools[0].parameters",
        INVALID,
        "",
    ),
    "a chosen function": Pair(
        ONE_TOOL | {"tool_choice": {"type": "function", "name": "get_weather"}},
        ONE_TOOL | {"tool_choice": {"type": "function", "name": "other"}},
        "tool_choice",
        INVALID,
        "no function 'other'",
    ),
    "a hosted tool chosen": Pair(
        ONE_TOOL | {"tool_choice": "required"},
        ONE_TOOL | {"tool_choice": {"type": "file_search"}},
        "tool_choice",
        UNSUPPORTED,
        "no 'file_search'",
    ),
    "allowed functions": Pair(
        ONE_TOOL | {"tool_choice": allowed("get_weather")},
        ONE_TOOL | {"tool_choice": allowed("b")},
        "tool_choice",
        INVALID,
        "no function 'b'",
    ),
    "a form": Pair(
        {"input": "x", "text": {"format": STRICT | {"schema": {**CITY, "additionalProperties": False}}}},
        {"input": "x", "text": {"format": STRICT | {"schema": {**CITY, "not": {}}}}},
        "text.format.schema",
        INVALID,
        "not",
    ),
    "plain forms": Pair(
        {"input": "x", "text": {"format": {"type": "json_object"}, "verbosity": "low"}},
        {"input": "x", "text": {"format": {"type": "grammar"}}},
        "text.format.type",
        INVALID,
        "'json_object'",
    ),
    "reasoning": Pair(
        {"input": "x", "reasoning": {"effort": "low", "summary": "auto"}},
        {"input": "x", "reasoning": "low"},
        "reasoning",
        INVALID,
        "object",
    ),
    "in front": Pair(
        {"input": "x", "background": False},
        {"input": "x", "background": True},
        "background",
        UNSUPPORTED,
        "a job",
    ),
    "no truncation": Pair(
        {"input": "x", "truncation": "disabled"},
        {"input": "x", "truncation": "auto"},
        "truncation",
        UNSUPPORTED,
        "nothing of the input is dropped",
    ),
    "no conversation": Pair(
        {"input": "x", "conversation": None},
        {"input": "x", "conversation": "conv_1"},
        "conversation",
        UNSUPPORTED,
        "previous_response_id",
    ),
    "no template": Pair(
        {"input": "x", "prompt": None},
        {"input": "x", "prompt": {"id": "pmpt_1"}},
        "prompt",
        UNSUPPORTED,
        "templates",
    ),
    "what is to be included": Pair(
        {"input": "x", "include": ["reasoning.encrypted_content", "file_search_call.results"]},
        {"input": "x", "include": "reasoning.encrypted_content"},
        "include",
        INVALID,
        "array",
    ),
    "metadata": Pair(
        {"input": "x", "metadata": {"a": "b"}},
        {"input": "x", "metadata": {"a": 1}},
        "metadata.a",
        INVALID,
        "string",
    ),
    "what is ignored": Pair(
        {
            "input": "x",
            "store": False,
            "service_tier": "auto",
            "safety_identifier": "u",
            "prompt_cache_key": "k",
            "max_tool_calls": 3,
            "stream_options": {"include_obfuscation": False},
        },
        {"input": "x", "stop": ["a"]},
        "stop",
        "unknown_parameter",
        "",
    ),
    "nulls": Pair(
        {"input": "x", "instructions": None, "tools": None, "temperature": None},
        {"input": "x", "temperature": "hot"},
        "temperature",
        INVALID,
        "number",
    ),
    "bounds": Pair(
        {"input": "x", "max_output_tokens": 1, "temperature": 0, "top_p": 1.0},
        {"input": "x", "max_output_tokens": 0},
        "max_output_tokens",
        INVALID,
        "greater than or equal to 1",
    ),
}  # fmt: skip
