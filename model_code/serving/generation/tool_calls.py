"""Tools: how a model is told of them, and how its calls are found in what it writes.

Each model family writes calls in a way of its own; which one a model speaks shows in its chat template. A
template that knows no tools gets them described in the system turn, in the way Hermes and Qwen write them.
Pure; knows nothing of engines or HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contracts.messages import Message, ToolCall
from contracts.tools import Tool

_INTRODUCTION = """You can call the functions described here, one JSON object per line:
{tools}
To call one, write nothing but this, with the function's name and its arguments in JSON:
<tool_call>
{{"name": "…", "arguments": {{…}}}}
</tool_call>"""


@dataclass(frozen=True)
class ToolCallSyntax:
    """How calls are written: between `begin` and `end` (None: up to the answer's end).

    With `whole`, a call is the answer's first character on, and `begin` belongs to it.
    """

    begin: str
    end: str | None
    whole: bool = False


TAGS = ToolCallSyntax("<tool_call>", "</tool_call>")
MISTRAL = ToolCallSyntax("[TOOL_CALLS]", None)
BARE_JSON = ToolCallSyntax("{", None, whole=True)


@dataclass(frozen=True)
class ParsedToolCall:
    """A call that was found; `arguments` is JSON text."""

    name: str
    arguments: str


def tool_call_syntax(template: str) -> ToolCallSyntax:
    """The way in which a chat template has the model write calls."""
    if TAGS.begin in template or "tools" not in template:
        return TAGS
    if MISTRAL.begin in template:
        return MISTRAL
    return BARE_JSON  # Llama 3's way


def knows_tools(template: str) -> bool:
    """Whether a chat template describes tools to the model by itself."""
    return "tools" in template


def template_messages(messages: Sequence[Message], *, with_calls: bool) -> list[dict[str, Any]]:
    """The conversation for a chat template; without `with_calls` calls and results become plain text."""
    return [_turn(message, with_calls) for message in messages]


def _turn(message: Message, with_calls: bool) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role  # OpenAI's newer name for the same
    if with_calls:
        turn: dict[str, Any] = {"role": role, "content": message.text}
        if message.tool_calls:
            turn["tool_calls"] = [_written(call) for call in message.tool_calls]
        if message.tool_call_id:
            turn["tool_call_id"] = message.tool_call_id
        return turn
    if role == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message.text}\n</tool_response>"}
    calls = [json.dumps(_written(call)["function"], ensure_ascii=False) for call in message.tool_calls or []]
    blocks = [f"{TAGS.begin}\n{call}\n{TAGS.end}" for call in calls]
    return {"role": role, "content": "\n".join([message.text, *blocks] if message.text else blocks)}


def _written(call: ToolCall) -> dict[str, Any]:
    """An earlier call as templates expect it: they write its arguments out by themselves."""
    function = {"name": call.function.name, "arguments": _parsed(call.function.arguments)}
    return {"id": call.id, "type": call.type, "function": function}


def _parsed(arguments: str) -> Any:
    """What is no JSON stays text."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def described(conversation: list[dict[str, Any]], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The conversation with the tools described in its system turn."""
    lines = "\n".join(json.dumps(definition(tool)["function"], ensure_ascii=False) for tool in tools)
    text = _INTRODUCTION.format(tools=lines)
    if conversation and conversation[0]["role"] == "system":
        first, *rest = conversation
        return [{**first, "content": f"{first['content']}\n\n{text}"}, *rest]
    return [{"role": "system", "content": text}, *conversation]


def definition(tool: Tool) -> dict[str, Any]:
    """A tool as templates expect it."""
    function = tool.function
    return {
        "type": tool.type,
        "function": {
            "name": function.name,
            "description": function.description or "",
            "parameters": function.parameters or {"type": "object", "properties": {}},
        },
    }


class ToolCallParser:
    """Separates calls from text as it arrives. What only looked like a call stays text."""

    def __init__(self, syntax: ToolCallSyntax, names: set[str]) -> None:
        self._syntax = syntax
        self._names = names
        self._held = ""
        self._inside = False
        self._started = False
        self._after_call = False  # blanks between calls are nobody's text

    def push(self, text: str) -> tuple[str, list[ParsedToolCall]]:
        """Text that is safe to give out, and calls that are complete."""
        out = ""
        calls: list[ParsedToolCall] = []
        self._held += text
        while True:
            if not self._inside:
                out += self._text_before()
                if not self._inside:
                    return out, calls
            end = self._syntax.end
            if end is None or (position := self._held.find(end)) < 0:
                return out, calls
            block, self._held = self._held[:position], self._held[position + len(end) :]
            self._inside = False
            if found := parse_tool_calls(block, self._names):
                calls += found
                self._after_call = True
            else:
                out += self._syntax.begin + block + end

    def _text_before(self) -> str:
        """What comes before the next call; enters it when it has begun."""
        begin = self._syntax.begin
        if self._after_call:
            self._held = self._held.lstrip()
            self._after_call = not self._held
        if self._syntax.whole:
            return self._opening(begin)
        if (position := self._held.find(begin)) >= 0:
            text, self._held = self._held[:position], self._held[position + len(begin) :]
            self._inside = True
            return text
        keep = next((size for size in range(len(begin) - 1, 0, -1) if self._held.endswith(begin[:size])), 0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text

    def _opening(self, begin: str) -> str:
        """An answer that is a call is one from its first character on."""
        if not self._started and self._held.strip():
            self._started = True
            self._inside = self._held.lstrip().startswith(begin)
        if self._inside or not self._started:
            return ""
        text, self._held = self._held, ""
        return text

    def flush(self) -> tuple[str, list[ParsedToolCall]]:
        """What was held back, once no more text comes."""
        held, self._held = self._held, ""
        if not self._inside:
            return held, []
        self._inside = False
        if calls := parse_tool_calls(held, self._names):
            return "", calls
        return held if self._syntax.whole else self._syntax.begin + held, []


def parse_tool_calls(text: str, names: set[str]) -> list[ParsedToolCall]:
    """The calls that a JSON object or a list of them stands for; none where it is anything else."""
    try:
        parsed, _ = json.JSONDecoder().raw_decode(text.strip())
    except (ValueError, RecursionError):
        return []
    calls = [_call(item) for item in (parsed if isinstance(parsed, list) else [parsed])]
    known = [call for call in calls if call is not None and call.name in names]
    return known if len(known) == len(calls) else []


def begins_call(text: str, names: set[str]) -> bool:
    """Whether a text begins, or may yet begin, `{"name": …, "arguments": …}` as engines lay JSON out."""
    begins = (f'{{"name": {json.dumps(name)}, "arguments": ' for name in names)
    return any(begin.startswith(text) or text.startswith(begin) for begin in begins)


def _call(item: Any) -> ParsedToolCall | None:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return None
    arguments = item.get("arguments", item.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _parsed(arguments)
    return (
        ParsedToolCall(item["name"], json.dumps(arguments, ensure_ascii=False))
        if isinstance(arguments, dict)
        else None
    )
