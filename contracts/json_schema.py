"""Which JSON Schemas a request may carry: any, within a size; a strict one, of OpenAI's subset only.

Pure and cheap: it reads a schema once and compiles nothing. What an engine cannot hold an answer to is
refused by name in a strict schema, and in any other left to the engine, which does what it can.
Source of the keywords: JSON Schema 2020-12; of the subset and its bounds: the OpenAI API reference,
"Structured outputs", supported schemas.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

MAX_BYTES = 262_144
MAX_NESTING = 64
"""Objects and lists inside one another in a schema of any kind, as JSON text."""
MAX_DEPTH = 16
"""Schemas inside one another in a strict schema."""
MAX_SCHEMAS = 6_000
MAX_ENUM_VALUES = 1_000
MAX_PATTERN = 1_024
MAX_PATTERN_COPIES = 512
"""How often the counted repeats of a pattern may copy its parts, all multiplied."""

_NOTES = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated"}
_KEYWORDS = {
    "type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems",
    "enum", "const", "anyOf", "$ref", "$defs", "definitions",
    "minLength", "maxLength", "pattern", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
}  # fmt: skip
_TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}
FORMATS = frozenset({"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_SIZES = ("minItems", "maxItems", "minLength", "maxLength")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_REPEAT = re.compile(r"\{(\d*)(?:,(\d*))?\}")

Schema = dict[str, Any]


def check_size(schema: Schema) -> None:
    """Raises ValueError where a schema, of whatever kind, is too large to be looked at."""
    if _nesting(schema) > MAX_NESTING:
        raise ValueError(f"the schema is nested deeper than {MAX_NESTING} levels")
    if len(json.dumps(schema)) > MAX_BYTES:
        raise ValueError(f"the schema is larger than {MAX_BYTES} bytes")


def _nesting(schema: Schema) -> int:
    """How deep a value goes, counted to just beyond what is allowed."""
    level: list[Any] = [schema]
    for depth in range(MAX_NESTING + 1):
        inner = [list(part.values()) if isinstance(part, dict) else part for part in level]
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return depth + 1
    return MAX_NESTING + 1


def check(schema: Schema) -> None:
    """Raises ValueError that says what of a strict schema is not supported, and where."""
    check_size(schema)
    definitions = _definitions(schema)
    for count, (place, part, depth) in enumerate(_parts(schema), 1):
        if count > MAX_SCHEMAS:
            raise ValueError(f"the schema holds more than {MAX_SCHEMAS} schemas")
        if depth > MAX_DEPTH:
            raise ValueError(f"the schema is nested deeper than {MAX_DEPTH} levels")
        _check_part(part, place, definitions)
    _refuse_endless(definitions)


def _definitions(schema: Schema) -> dict[str, Any]:
    """What `$ref` may name."""
    found: dict[str, Any] = {"#": schema}
    for keyword in ("$defs", "definitions"):
        group = schema.get(keyword, {})
        if not isinstance(group, dict):
            raise ValueError(f"'{keyword}' must be an object")
        if odd := [name for name in group if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name)]:
            raise ValueError(
                f"the name of a definition has letters, digits, '_', '.', '-' only: '{odd[0][:64]}'"
            )
        found |= {f"#/{keyword}/{name}": part for name, part in group.items()}
    return found


def _parts(schema: Any) -> Iterator[tuple[str, Any, int]]:
    """Every schema inside a schema with its place and depth; no recursion, so that depth costs nothing."""
    waiting: list[tuple[str, Any, int]] = [("", schema, 0)]
    while waiting:
        place, part, depth = waiting.pop()
        yield place, part, depth
        if not isinstance(part, dict):
            continue
        for keyword in ("properties", "$defs", "definitions"):
            group = part.get(keyword)
            if isinstance(group, dict):
                waiting += [(f"{place}/{keyword}/{name}", inner, depth + 1) for name, inner in group.items()]
        if isinstance(part.get("anyOf"), list):
            waiting += [(f"{place}/anyOf/{i}", inner, depth + 1) for i, inner in enumerate(part["anyOf"])]
        waiting += [
            (f"{place}/{keyword}", part[keyword], depth + 1)
            for keyword in ("items", "additionalProperties")
            if keyword in part and not (keyword == "additionalProperties" and isinstance(part[keyword], bool))
        ]


def _check_part(part: Any, place: str, definitions: dict[str, Any]) -> None:
    where = f" (at '{place[:200]}')" if place else ""
    if not isinstance(part, dict):
        raise ValueError(f"a schema must be an object{where}")
    for keyword in part:
        if keyword not in _KEYWORDS | _NOTES:
            raise ValueError(f"the schema keyword '{str(keyword)[:64]}' is not supported{where}")
        if keyword in {"$defs", "definitions"} and place:
            raise ValueError(f"'{keyword}' belongs at the top of the schema{where}")
    try:
        _check_type(part)
        _check_object(part)
        _check_string(part)
        _check_numbers(part)
        _check_choices(part, definitions)
    except ValueError as error:
        raise ValueError(f"{error}{where}") from None


def _check_type(part: Schema) -> None:
    kinds = part.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if not all(isinstance(kind, str) and kind in _TYPES for kind in kinds) or ("type" in part and not kinds):
        raise ValueError(f"'type' must be one of {', '.join(sorted(_TYPES))}")


def _check_object(part: Schema) -> None:
    properties, required = part.get("properties", {}), part.get("required", [])
    if not isinstance(properties, dict):
        raise ValueError("'properties' must be an object")
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise ValueError("'required' must be a list of names")
    if missing := [name for name in required if name not in properties]:
        raise ValueError(f"'required' names '{missing[0][:64]}', which is not among 'properties'")


def _check_string(part: Schema) -> None:
    if "format" in part and not (isinstance(part["format"], str) and part["format"] in FORMATS):
        raise ValueError(f"'format' must be one of {', '.join(sorted(FORMATS))}")
    if "pattern" not in part:
        return
    pattern = part["pattern"]
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        raise ValueError(f"'pattern' must be a text of at most {MAX_PATTERN} characters")
    _check_pattern(pattern)


def is_countable_pattern(pattern: Any) -> bool:
    """Whether a value is a pattern to which an answer can be held."""
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        return False
    try:
        _check_pattern(pattern)
    except ValueError:
        return False
    return True


def _check_pattern(pattern: str) -> None:
    if re.search(r"\(\?(?!:)", pattern) or re.search(r"\\[1-9bBAZzGkpP]", pattern):
        raise ValueError("'pattern' may not look around, refer back or name groups")
    copies = 1
    for low, high in _REPEAT.findall(pattern):
        copies *= max(1, int((high or low or "0")[:9]))
    if copies > MAX_PATTERN_COPIES:
        raise ValueError(f"'pattern' repeats its parts more than {MAX_PATTERN_COPIES} times")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        raise ValueError("'pattern' is not a regular expression") from None


def _check_numbers(part: Schema) -> None:
    for keyword in _SIZES:
        value = part.get(keyword, 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"'{keyword}' must be a whole number from 0")
    for keyword in _BOUNDS:
        value = part.get(keyword, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
            raise ValueError(f"'{keyword}' must be a number")
    if not part.get("multipleOf", 1) > 0:
        raise ValueError("'multipleOf' must be above 0")
    for low, high in (("minItems", "maxItems"), ("minLength", "maxLength"), ("minimum", "maximum")):
        if low in part and high in part and part[low] > part[high]:
            raise ValueError(f"'{low}' is above '{high}'")


def _check_choices(part: Schema, definitions: dict[str, Any]) -> None:
    for keyword in ("enum", "const"):
        if keyword not in part:
            continue
        values = [part[keyword]] if keyword == "const" else part[keyword]
        if not isinstance(values, list) or not 0 < len(values) <= MAX_ENUM_VALUES:
            raise ValueError(f"'enum' must be a list of 1 to {MAX_ENUM_VALUES} values")
        if not all(value is None or isinstance(value, str | int | float | bool) for value in values):
            raise ValueError(f"'{keyword}' may hold texts, numbers, true, false and null only")
    if "anyOf" in part and (not isinstance(part["anyOf"], list) or not part["anyOf"]):
        raise ValueError("'anyOf' must be a list of schemas")
    if "$ref" in part and not (isinstance(part["$ref"], str) and part["$ref"] in definitions):
        raise ValueError("'$ref' must name '#' or a definition of this schema, as '#/$defs/name'")


def _refuse_endless(definitions: dict[str, Any]) -> None:
    """A definition that leads back to itself with nothing in between describes no text at all."""
    leads_to = {name: _targets(part) for name, part in definitions.items()}
    while leads_to:
        ends = [name for name, targets in leads_to.items() if not targets & leads_to.keys()]
        if not ends:
            raise ValueError(f"'{next(iter(leads_to))[:64]}' is defined as itself")
        for name in ends:
            del leads_to[name]


def _targets(part: Schema) -> set[str]:
    """The definitions that a schema is, or may be, without any text around them."""
    found, waiting = set(), [part]
    while waiting:
        here = waiting.pop()
        if "$ref" in here:
            found.add(here["$ref"])
        waiting += here.get("anyOf", [])
    return found
