"""In which forms vLLM is asked for one chat: as the caller wrote it, else in ways that it can do.

Tools beside a response format: vLLM holds the whole answer to the format, and no tool can be called
(vllm-project/vllm#39929). So the answer becomes a tool as well, one of them must be called, and what the
call of that one holds is the caller's answer again (answer_tool.py). These are vLLM's own means for forced
calls, whatever syntax of calls the model has.

A schema that need not be kept whole (not `strict`) and that vLLM refuses is asked for as a plain one, and if
that is refused too, as any JSON: the steps of our own engines (model_code.serving.generation.planning).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from model_code.serving.generation.plain_schema import PlainSchema

Content = dict[str, Any]
Schema = dict[str, Any]
_ANY_OBJECT: Schema = {"type": "object"}
_ANSWER = "final_answer"
_DESCRIPTION = "The answer to the user, in the form that it must have. Call it when no other tool is needed."


@dataclass(frozen=True)
class Form:
    """A body for vLLM, and the name of the tool in it whose call is the answer, if one is."""

    content: Content
    answer_tool: str | None = None


def forms(content: Content) -> Iterator[Form]:
    """The forms of a checked request's content, each for the case that vLLM cannot do the one before."""
    yield _with_answer_tool(content)
    if loosened := _changed(content, _plain):
        yield _with_answer_tool(loosened)
        yield _with_answer_tool(_changed(content, lambda _: _ANY_OBJECT) or content)


def schema_field(content: Content) -> str | None:
    """The field that holds a schema; None where none does."""
    wanted = content.get("response_format")
    if wanted and wanted.get("type") == "json_schema":
        return "response_format"
    return "tools" if content.get("tools") else None


def _with_answer_tool(content: Content) -> Form:
    wanted, tools = content.get("response_format"), content.get("tools")
    if (
        not tools
        or not wanted
        or wanted["type"] == "text"
        or content.get("tool_choice") not in (None, "auto")
    ):
        return Form(content)
    name = _ANSWER
    taken = {tool["function"]["name"] for tool in tools}
    while name in taken:
        name += "_"
    described = wanted.get("json_schema") or {}
    function = {
        "name": name,
        "description": described.get("description") or _DESCRIPTION,
        "parameters": described.get("schema") or _ANY_OBJECT,
    }
    kept = {key: value for key, value in content.items() if key != "response_format"}
    offered = [*tools, {"type": "function", "function": function}]
    # One call: an answer beside calls would be none.
    asked = {"tools": offered, "tool_choice": "required", "parallel_tool_calls": False}
    return Form(kept | asked, name)


def _changed(content: Content, change: Callable[[Schema], Schema]) -> Content | None:
    """The content with its schemas changed that need not be kept whole; None where there are none."""
    changed: Content = {}
    wanted = content.get("response_format") or {}
    form = wanted.get("json_schema")
    if form and not form.get("strict"):
        changed["response_format"] = {**wanted, "json_schema": {**form, "schema": change(form["schema"])}}
    tools = content.get("tools") or []
    if any(_is_loose(tool["function"]) for tool in tools):
        changed["tools"] = [_changed_tool(tool, change) for tool in tools]
    return content | changed if changed else None


def _is_loose(function: dict[str, Any]) -> bool:
    return bool(function.get("parameters")) and not function.get("strict")


def _changed_tool(tool: dict[str, Any], change: Callable[[Schema], Schema]) -> dict[str, Any]:
    function = tool["function"]
    if not _is_loose(function):
        return tool
    return {**tool, "function": {**function, "parameters": change(function["parameters"])}}


def _plain(schema: Schema) -> Schema:
    plain = PlainSchema()
    text: Schema = json.loads(plain.text(plain.of(schema)))
    return text
