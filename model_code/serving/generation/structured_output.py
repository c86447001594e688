"""What an answer is held to: a response format or a forced call as one JSON Schema, nothing left unsaid.

Engines differ in what they assume of a schema that leaves things open; here nothing is left open. Knows
nothing of engines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from contracts.tools import Function, ResponseFormat

ANY_OBJECT = {"type": "object", "additionalProperties": True}
_IMPLIED = {
    "properties": "object", "additionalProperties": "object", "items": "array", "minItems": "array",
    "maxItems": "array", "pattern": "string", "format": "string", "minLength": "string",
    "maxLength": "string", "minimum": "number", "maximum": "number", "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
}  # fmt: skip


def response_format_schema(wanted: ResponseFormat | None) -> str | None:
    """The schema of a response format as JSON text; None for plain text."""
    if wanted is None or wanted.type == "text":
        return None
    if wanted.json_schema is None:
        return json.dumps(ANY_OBJECT)
    return json.dumps(_explicit(wanted.json_schema.schema_))


def arguments_schema(function: Function) -> str:
    """The schema of one function's arguments."""
    return json.dumps(_explicit(function.parameters or ANY_OBJECT))


def any_tool_call_schema(functions: Sequence[Function]) -> str:
    """The schema of `{"name": …, "arguments": …}` for a call of any of these functions."""
    definitions: dict[str, Any] = {}
    calls = []
    for number, function in enumerate(functions):
        own = f"tool{number}"
        parameters = _explicit(function.parameters or ANY_OBJECT)
        inner = {**parameters.pop("$defs", {}), **parameters.pop("definitions", {})}
        definitions[own] = _moved(parameters, own)
        definitions |= {f"{own}.{name}": _moved(part, own) for name, part in inner.items()}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": function.name}, "arguments": {"$ref": f"#/$defs/{own}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return json.dumps({"anyOf": calls, "$defs": definitions})


def _moved(part: Any, own: str) -> Any:
    """A schema whose references follow its definitions to where they have gone."""
    if isinstance(part, list):
        return [_moved(inner, own) for inner in part]
    if not isinstance(part, dict):
        return part
    moved = {key: _moved(inner, own) for key, inner in part.items()}
    if isinstance(target := moved.get("$ref"), str):
        name = target.rpartition("/")[2] if target != "#" else ""
        moved["$ref"] = f"#/$defs/{own}.{name}" if name else f"#/$defs/{own}"
    return moved


def _explicit(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its types named, its objects closed and open arrays said to be open.

    Whatever keeps to the result keeps to the schema; notes for readers are dropped.
    """
    part = {key: value for key, value in schema.items() if key not in {"title", "examples", "default"}}
    if not part.keys() & {"type", "enum", "const", "anyOf", "$ref"}:
        kinds = {_IMPLIED[key] for key in part if key in _IMPLIED}
        if kinds:
            part["type"] = sorted(kinds) if len(kinds) > 1 else kinds.pop()
    named = part.get("type", [])
    types = named if isinstance(named, list) else [named]
    if "object" in types:
        part.setdefault("additionalProperties", "properties" not in part)
    if "array" in types:
        part.setdefault("items", {})
    for keyword in ("properties", "$defs", "definitions"):
        if keyword in part:
            part[keyword] = {name: _explicit(inner) for name, inner in part[keyword].items()}
    for keyword in ("items", "additionalProperties"):
        if isinstance(part.get(keyword), dict):
            part[keyword] = _explicit(part[keyword])
    if "anyOf" in part:
        part["anyOf"] = [_explicit(inner) for inner in part["anyOf"]]
    return part
