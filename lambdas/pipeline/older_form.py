"""Answers to chat requests of OpenAI's older form: `function_call` where today's have `tool_calls`.

Works on what is about to leave as JSON: everything before it knows today's form alone.
Source: the OpenAI API reference, "Chat completions", deprecated fields.
"""

from __future__ import annotations

from typing import Any

from contracts.chat import ChatRequest
from lambdas.pipeline.request import TextGeneration


def is_older_form(generation: TextGeneration) -> bool:
    """Whether the caller offered `functions`."""
    return isinstance(generation.body, ChatRequest) and generation.body.functions is not None


def in_older_form(reply: dict[str, Any]) -> dict[str, Any]:
    """A whole answer or a chunk, its calls turned in place. The older form has one call: the first."""
    for choice in reply["choices"]:
        for part in (choice.get("message"), choice.get("delta")):
            if not part or "tool_calls" not in part:
                continue
            for call in part.pop("tool_calls") or []:
                if call.get("index", 0) == 0:
                    part.setdefault("function_call", call["function"])
        if choice.get("finish_reason") == "tool_calls":
            choice["finish_reason"] = "function_call"
    return reply
