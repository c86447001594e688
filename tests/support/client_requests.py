"""What clients send besides the plain request, each beside a counterpart that stays refused for a reason.

Shapes are those of current SDKs and agent frameworks: answers put back into a conversation, schemas written
by Zod and pydantic, parameters of newer API versions, nulls for everything left open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
USER = {"role": "user", "content": "Say hi."}


def tool(
    parameters: dict[str, Any] | None = None, name: str = "get_weather", **fields: Any
) -> dict[str, Any]:
    """A tool; without parameters it takes one city."""
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    function = {"name": name, "description": "d", "parameters": parameters or city, **fields}
    return {"type": "function", "function": function}


def form(schema: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A response format of that schema."""
    return {"type": "json_schema", "json_schema": {"name": "p", "schema": schema, **fields}}


def turns(*messages: dict[str, Any]) -> dict[str, Any]:
    """A conversation."""
    return {"messages": list(messages)}


def call(name: str = "get_weather", **more: Any) -> dict[str, Any]:
    """A call of a tool, as an answer holds it."""
    function = {"name": name, "arguments": '{"city": "Paris"}', **more.pop("function", {})}
    return {"id": "call_1", "type": "function", "function": function, **more}


def properties(**parts: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object."""
    return {"type": "object", "properties": parts}


@dataclass(frozen=True)
class Pair:
    """A request that is taken, and its counterpart: what is wrong with it, by parameter, code and words."""

    taken: dict[str, Any]
    refused: dict[str, Any]
    param: str | None
    code: str
    words: str


RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "12 C"}
LARGEST = 2**53 - 1
NAME_ONLY = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
STRICT_NAME = {**NAME_ONLY, "additionalProperties": False}
ALLOWED = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "get_weather"}}]}

CHATS: dict[str, Pair] = {
    "an answer put back, with its nulls": Pair(
        turns(USER, {"role": "assistant", "content": "Hi", "refusal": None, "audio": None}, USER),
        turns(USER, {"role": "assistant", "content": 7, "refusal": None}, USER),
        "messages[1].content",
        "invalid_value",
        "a string or a list of content parts",
    ),
    "an answer of a parse helper put back": Pair(
        {
            **turns(
                USER,
                {
                    "role": "assistant",
                    "content": None,
                    "parsed": None,
                    "tool_calls": [call(index=0, function={"parsed_arguments": {"city": "Paris"}})],
                },
                RESULT,
            ),
            "tools": [tool()],
        },
        {
            **turns(
                USER, {"role": "assistant", "tool_calls": [{**call(), "function": {"name": "f"}}]}, RESULT
            ),
            "tools": [tool()],
        },
        "messages[1].tool_calls[0].function.arguments",
        "missing_parameter",
        "arguments",
    ),
    "the reasoning of another model in the history": Pair(
        turns(
            USER, {"role": "assistant", "content": "Hi", "reasoning_content": "I greet.", "annotations": []}
        ),
        turns(USER, {"role": "thinker", "content": "Hi", "reasoning_content": "I greet."}),
        "messages[1].role",
        "invalid_value",
        "'assistant'",
    ),
    "ids of a chat front end": Pair(
        turns({**USER, "id": "m1", "createdAt": "2026-11-30"}),
        turns({"id": "m1", "content": "hi"}),
        "messages[0].role",
        "missing_parameter",
        "role",
    ),
    "cache hints and reasoning inside parts": Pair(
        turns(
            {
                "role": "user",
                "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
            },
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "b"}],
            },
            USER,
        ),
        turns({"role": "user", "content": [{"type": "text", "cache_control": {"type": "ephemeral"}}]}),
        "messages[0].content[0].text",
        "missing_parameter",
        "text",
    ),
    "a refusal put back as a part": Pair(
        turns(USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, USER),
        turns(
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                ],
            }
        ),
        "messages[0].content[1]",
        "unsupported_parameter",
        "reads text only, no 'image_url'",
    ),
    "a text part, and one whose kind is no word": Pair(
        turns({"role": "system", "content": [{"type": "text", "text": ""}]}, USER),
        turns({"role": "system", "content": [{"type": {}, "text": ""}]}, USER),
        "messages[0].content[0].type",
        "invalid_value",
        "should be 'text'",
    ),
    "Zod's bounds of an integer in a tool": Pair(
        {"tools": [tool(properties(n={"type": "integer", "minimum": -LARGEST, "maximum": LARGEST}))]},
        {"tools": [tool(properties(n={"type": "integer", "minimum": "1"}), strict=True)]},
        "tools[0].function.parameters",
        "invalid_value",
        "'minimum'",
    ),
    "Zod's bounds of an integer in a strict schema": Pair(
        {"response_format": form(properties(n={"type": "integer", "maximum": LARGEST}), strict=True)},
        {"response_format": form(properties(n={"type": "integer", "maximum": None}), strict=True)},
        "response_format.json_schema.schema",
        "invalid_value",
        "'maximum'",
    ),
    "a tool with an address and a choice": Pair(
        {
            "tools": [
                tool(
                    properties(
                        url={"type": "string", "format": "uri"},
                        v={"oneOf": [{"type": "integer"}, {"type": "string"}]},
                    )
                )
            ]
        },
        {"tools": [tool(properties(v={"oneOf": [{"type": "integer"}]}), strict=True)]},
        "tools[0].function.parameters",
        "invalid_value",
        "'oneOf' is not supported",
    ),
    "everyday types of pydantic": Pair(
        {
            "tools": [
                tool(
                    {
                        **properties(
                            tags={"type": "array", "items": {"type": "string"}, "uniqueItems": True},
                            pair={
                                "type": "array",
                                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                                "maxItems": 2,
                            },
                            step={"type": "integer", "multipleOf": 5},
                            code={"type": "string", "pattern": "^a+$", "maxLength": 5},
                            text={"type": "string", "maxLength": 4000},
                            note={"type": "string", "x-ui": "t", "writeOnly": True},
                        ),
                        "required": ["elsewhere"],
                    }
                )
            ]
        },
        {"tools": [tool({"type": "array", "items": {"type": "string"}})]},
        "tools[0].function.parameters",
        "invalid_value",
        "the type 'object'",
    ),
    "multiples and counted patterns in a strict schema": Pair(
        {
            "response_format": form(
                properties(
                    a={"type": "integer", "multipleOf": 5},
                    b={"type": "string", "pattern": "^a+$", "maxLength": 5},
                ),
                strict=True,
            )
        },
        {"response_format": form(properties(a={"type": "integer", "multipleOf": 0}), strict=True)},
        "response_format.json_schema.schema",
        "invalid_value",
        "'multipleOf'",
    ),
    "a schema of the answer beside tools": Pair(
        {"tools": [tool()], "response_format": form(STRICT_NAME, strict=True)},
        {"tools": [tool()], "response_format": {"type": "json_schema"}},
        "response_format",
        "invalid_value",
        "needs a 'json_schema'",
    ),
    "parameters that change nothing": Pair(
        {
            "store": False,
            "service_tier": "auto",
            "safety_identifier": "u1",
            "prompt_cache_key": "k",
            "modalities": ["text"],
            "verbosity": "low",
            "prediction": {"type": "content", "content": "a"},
        },
        {"store": "yes"},
        "store",
        "invalid_value",
        "boolean",
    ),
    "nulls": Pair(
        {
            "store": None,
            "logit_bias": None,
            "function_call": None,
            "functions": None,
            "service_tier": None,
            "some_field_of_next_year": None,
            "stream": None,
            "stream_options": {"include_usage": None},
        },
        {"some_field_of_next_year": 1},
        "some_field_of_next_year",
        "unknown_parameter",
        "Unknown parameter",
    ),
    "an empty logit_bias": Pair(
        {"logit_bias": {}},
        {"logit_bias": {"50256": -100}},
        "logit_bias",
        "unsupported_parameter",
        "not supported",
    ),
    "an effort of reasoning": Pair(
        {"reasoning_effort": "low"},
        {"reasoning_effort": 3},
        "reasoning_effort",
        "invalid_value",
        "string",
    ),
    "text among the modalities": Pair(
        {"modalities": ["text"]},
        {"modalities": ["text", "audio"], "audio": {"voice": "a"}},
        "modalities",
        "unsupported_parameter",
        "text",
    ),
    "a seed": Pair(
        {"seed": 7},
        {"top_k": 5},
        "top_k",
        "unsupported_parameter",
        "not supported",
    ),
    "a search that is not asked for": Pair(
        {"web_search_options": None},
        {"web_search_options": {}},
        "web_search_options",
        "unsupported_parameter",
        "does not search",
    ),
    "padding that is turned off": Pair(
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"stream": True, "stream_options": {"include_everything": True}},
        "stream_options.include_everything",
        "unknown_parameter",
        "include_everything",
    ),
    "allowed tools": Pair(
        {
            "tools": [tool(), tool(name="other")],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": ALLOWED},
        },
        {"tools": [tool(name="other")], "tool_choice": {"type": "allowed_tools", "allowed_tools": ALLOWED}},
        "tool_choice",
        "invalid_value",
        "no function 'get_weather'",
    ),
    "functions of the older form": Pair(
        {"functions": [{"name": "get_weather", "parameters": properties()}], "function_call": "auto"},
        {"functions": [{"name": "get weather"}]},
        "functions[0].name",
        "invalid_value",
        "pattern",
    ),
    "a call and its result in the older form": Pair(
        {
            **turns(
                USER,
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "1"},
            ),
            "functions": [{"name": "f"}],
        },
        turns(USER, {"role": "function", "name": "f"}),
        "messages[1]",
        "invalid_value",
        "needs content",
    ),
    "as many tools as OpenAI takes": Pair(
        {"tools": [tool(name=f"t{i}") for i in range(128)]},
        {"tools": [tool(name=f"t{i}") for i in range(129)]},
        "tools",
        "invalid_value",
        "128",
    ),
    "four stops": Pair(
        {"stop": ["a", "b", "c", "d"]},
        {"stop": ["a", "b", "c", "d", "e"]},
        "stop",
        "invalid_value",
        "at most 4",
    ),
    "a tool with notes of MCP": Pair(
        {"tools": [{**tool({}), "annotations": {"readOnlyHint": True}}]},
        {"tools": [{"type": "web_search"}]},
        "tools[0].type",
        "invalid_value",
        "'function'",
    ),
}
"""Chat requests, by what is special about them; fields that are not named are those of a plain chat."""

COMPLETIONS: dict[str, Pair] = {
    "two prompts": Pair(
        {"prompt": ["Once", "Two"]}, {"prompt": ["Once", 2]}, "prompt[1]", "invalid_value", "string"
    ),
    "token ids": Pair({"prompt": [1, 2]}, {"prompt": [1, -2]}, "prompt[1]", "invalid_value", "0"),
    "lists of token ids": Pair(
        {"prompt": [[1, 2], [3]]}, {"prompt": [[1, 2], []]}, "prompt[1]", "invalid_value", "1 item"
    ),
    "what an evaluation harness scores with": Pair(
        {"prompt": [[1, 2]], "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0, "seed": 1234},
        {"prompt": [[1, 2]], "max_tokens": 0, "logprobs": 1},
        "max_tokens",
        "invalid_value",
        "without 'echo'",
    ),
    "a single candidate": Pair(
        {"prompt": "a", "best_of": 1, "suffix": None, "logit_bias": {}},
        {"prompt": "a", "best_of": 2},
        "best_of",
        "unsupported_parameter",
        "with n",
    ),
    "no gap": Pair(
        {"prompt": "a", "suffix": None},
        {"prompt": "a", "suffix": "b"},
        "suffix",
        "unsupported_parameter",
        "fills no gap",
    ),
    "as many likeliest tokens as OpenAI shows": Pair(
        {"prompt": "a", "logprobs": 5}, {"prompt": "a", "logprobs": 6}, "logprobs", "invalid_value", "5"
    ),
}
EMBEDDINGS: dict[str, Pair] = {
    "nulls": Pair(
        {"input": "a", "encoding_format": None, "dimensions": None, "user": None},
        {"input": "a", "encoding_format": "int8"},
        "encoding_format",
        "invalid_value",
        "base64",
    ),
    "several texts": Pair(
        {"input": ["a", "b"]},
        {"input": [[15339, 1917]]},
        "input",
        "unsupported_parameter",
        "send text",
    ),
    "many texts": Pair(
        {"input": ["a"] * 2048},
        {"input": ["a"] * 2049},
        "input",
        "invalid_value",
        "at most 2048",
    ),
    "one text": Pair({"input": "a"}, {"input": [1, 2]}, "input", "unsupported_parameter", "send text"),
    "some text": Pair({"input": "a"}, {"input": 5}, "input", "invalid_value", "a string or a list"),
}

RERANKS: dict[str, Pair] = {
    "nulls": Pair(
        {"query": "q", "documents": ["a"], "top_n": None, "max_tokens_per_doc": None, "rank_fields": None},
        {"query": "q", "documents": ["a"], "top_n": -1},
        "top_n",
        "invalid_value",
        "greater than or equal to 0",
    ),
    "documents as objects": Pair(
        {"query": "q", "documents": [{"text": "a", "id": 7}, "b"]},
        {"query": "q", "documents": ["b", {"title": "a"}]},
        "documents[1]",
        "invalid_value",
        "needs the field 'text'",
    ),
    "the field that is ranked": Pair(
        {"query": "q", "documents": [{"text": "a"}], "rank_fields": ["text"]},
        {"query": "q", "documents": [{"text": "a"}], "rank_fields": ["title"]},
        "rank_fields",
        "unsupported_parameter",
        "by its field 'text' alone",
    ),
    "long documents": Pair(
        {"query": "q", "documents": ["a"], "max_tokens_per_doc": 4096},
        {"query": "q", "documents": ["a"], "max_chunks_per_doc": 10},
        "max_chunks_per_doc",
        "unsupported_parameter",
        "max_tokens_per_doc",
    ),
    "many documents": Pair(
        {"query": "q", "documents": ["a"] * 2048, "top_n": 9999, "return_documents": False},
        {"query": "q", "documents": ["a"] * 2049},
        "documents",
        "invalid_value",
        "at most 2048",
    ),
    "an empty document": Pair(
        {"query": "q", "documents": [" "]},
        {"query": "q", "documents": ["a", ""]},
        "documents[1]",
        "invalid_value",
        "at least 1 character",
    ),
    "a query": Pair(
        {"query": "q", "documents": ["a"]}, {"documents": ["a"]}, "query", "missing_parameter", "query"
    ),
}
SCORES: dict[str, Pair] = {
    "one against several": Pair(
        {"text_1": "q", "text_2": ["a", "b"]},
        {"text_1": ["q", "r"], "text_2": ["a", "b", "c"]},
        None,
        "invalid_value",
        "text_1 has 2 texts and text_2 has 3",
    ),
    "the newer names": Pair(
        {"queries": ["q", "r"], "documents": ["a", "b"], "use_activation": False},
        {"queries": "q", "text_1": "q", "documents": "a"},
        None,
        "invalid_value",
        "two names of the same",
    ),
    "a bound of tokens": Pair(
        {"text_1": "q", "text_2": "a", "truncate_prompt_tokens": -1},
        {"text_1": "q", "text_2": "a", "truncate_prompt_tokens": -2},
        "truncate_prompt_tokens",
        "invalid_value",
        "greater than or equal to -1",
    ),
    "text, no token ids": Pair(
        {"text_1": ["q"], "text_2": "a"},
        {"text_1": [15339], "text_2": "a"},
        "text_1",
        "unsupported_parameter",
        "send text",
    ),
}
CLASSIFICATIONS: dict[str, Pair] = {
    "raw scores": Pair(
        {"input": ["a", "b"], "use_activation": False, "truncate_prompt_tokens": 8},
        {"input": "a", "use_activation": "no"},
        "use_activation",
        "invalid_value",
        "boolean",
    ),
    "text": Pair({"input": "a"}, {"messages": []}, "input", "missing_parameter", "input"),
}
MODERATIONS: dict[str, Pair] = {
    "a model of OpenAI's": Pair(
        {"input": ["a", "b"], "model": "omni-moderation-latest"},
        {"input": [], "model": "omni-moderation-latest"},
        "input",
        "invalid_value",
        "at least 1 item",
    ),
    "no model": Pair(
        {"input": "a", "model": None}, {"input": 5}, "input", "invalid_value", "a list of strings"
    ),
    "parts": Pair(
        {"input": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"input": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://x"}}]},
        "input[1]",
        "unsupported_parameter",
        "guards read text",
    ),
}
