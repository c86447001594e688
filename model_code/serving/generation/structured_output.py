"""What an answer is held to: a response format, a forced call, or one of both, as one plain JSON Schema.

Knows nothing of engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.tools import Function, ResponseFormat
from model_code.serving.generation.plain_schema import PlainSchema

ANY_OBJECT: dict[str, Any] = {"type": "object"}
NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
"""What a function without parameters takes."""


def answer_schema(wanted: ResponseFormat, functions: Sequence[Function] = (), *, loose: bool = False) -> str:
    """The schema of an answer in a format, or of a call of any of the functions, as JSON text.

    A call is `{"name": …, "arguments": …}`. `loose`: any JSON, and calls with any arguments.
    """
    schema = PlainSchema()
    answer = schema.anything() if loose else schema.of(_answer(wanted))
    calls = _calls(schema, functions, loose)
    return schema.text({"anyOf": [answer, *calls]} if calls else answer)


def call_schema(functions: Sequence[Function], *, only: bool = False, loose: bool = False) -> str:
    """The schema of a call of any of these functions; with `only`, of the one function's arguments."""
    schema = PlainSchema()
    calls = _calls(schema, functions, loose)
    return schema.text(calls[0]["properties"]["arguments"] if only else {"anyOf": calls})


def _answer(wanted: ResponseFormat) -> dict[str, Any]:
    return wanted.json_schema.schema_ if wanted.json_schema else ANY_OBJECT


def _calls(schema: PlainSchema, functions: Sequence[Function], loose: bool) -> list[dict[str, Any]]:
    calls = []
    for function in functions:
        arguments = ANY_OBJECT if loose and function.parameters else function.parameters or NO_ARGUMENTS
        properties = {"name": {"enum": [function.name]}, "arguments": schema.of(arguments)}
        closed = {"required": ["name", "arguments"], "additionalProperties": False}
        calls.append({"type": "object", "properties": properties, **closed})
    return calls
