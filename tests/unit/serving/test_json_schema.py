"""Schemas that answers can be held to pass; everything else is refused in words, at once, however hostile."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.json_schema import MAX_BYTES, check

NODE = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}

GOOD: dict[str, dict[str, Any]] = {
    "anything": {},
    "recursive": {"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
    "itself below": {"type": "array", "items": {"$ref": "#"}},
    "properties named like keywords": {
        "type": "object",
        "properties": {"oneOf": {"type": "string"}, "$ref": {"type": "integer"}},
    },
    "bounds": {"type": "number", "minimum": -1.5, "exclusiveMaximum": 3},
    "bounds of a double's whole numbers": {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**53 - 1},
    "multiples": {"type": "number", "multipleOf": 0.25},
    "a pattern with lengths": {"type": "string", "pattern": "^a+$", "minLength": 1, "maxLength": 5},
    "many values": {"enum": list(range(1000))},
    "many properties": {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(5000)}},
    "many paths": {
        "$defs": {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 3} for i in range(60)}
        | {"d60": {"type": "null"}},
        "$ref": "#/$defs/d0",
    },
}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "oneOf": ({"oneOf": [{}]}, "'oneOf' is not supported"),
    "deep inside": ({"properties": {"a": {"items": {"not": {}}}}}, "/properties/a/items"),
    "unknown type": ({"type": "text"}, "'type'"),
    "no type": ({"type": []}, "'type'"),
    "type of another type": ({"type": {"a": 1}}, "'type'"),
    "multiples of nothing": ({"multipleOf": 0}, "'multipleOf'"),
    "unique items": ({"uniqueItems": True}, "'uniqueItems' is not supported"),
    "properties a list": ({"properties": []}, "'properties'"),
    "required unknown": ({"properties": {}, "required": ["a"]}, "'required'"),
    "required of numbers": ({"required": [1]}, "'required'"),
    "a schema that is true": ({"items": True}, "must be an object"),
    "reference outside": ({"$ref": "https://example.com/schema"}, "'$ref'"),
    "reference to nothing": ({"$ref": "#/$defs/a"}, "'$ref'"),
    "reference a list": ({"$ref": ["#"]}, "'$ref'"),
    "itself": ({"$ref": "#"}, "defined as itself"),
    "itself by a detour": (
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}},
        "defined as itself",
    ),
    "definitions inside": ({"properties": {"a": {"$defs": {}}}}, "top of the schema"),
    "definitions a list": ({"$defs": []}, "'$defs'"),
    "an odd name": ({"$defs": {"a/b": {}}}, "name of a definition"),
    "too deep": (nested(50), "nested deeper"),
    "too large": ({"description": "x" * MAX_BYTES}, "larger than"),
    "too many parts": ({"anyOf": [{}] * 6500}, "more than 6000 schemas"),
    "too many values": ({"enum": list(range(1001))}, "'enum'"),
    "no values": ({"enum": []}, "'enum'"),
    "values with an inside": ({"enum": [{}]}, "'enum'"),
    "a constant with an inside": ({"const": []}, "'const'"),
    "nothing to choose": ({"anyOf": []}, "'anyOf'"),
    "a length that is no number": ({"maxLength": "9"}, "'maxLength'"),
    "lengths the wrong way round": ({"minLength": 3, "maxLength": 2}, "'minLength'"),
    "items below none": ({"minItems": -1}, "'minItems'"),
    "bound a text": ({"minimum": "a", "maximum": 3}, "'minimum'"),
    "bound not a number": ({"minimum": float("nan")}, "'minimum'"),
    "bounds the wrong way round": ({"minimum": 3, "maximum": 2}, "'minimum'"),
    "repeats of repeats": ({"pattern": "((a{1,99}){1,99}){1,99}"}, "repeats its parts"),
    "looking ahead": ({"pattern": "(?=a)b"}, "look around"),
    "looking back": ({"pattern": r"(a)\1"}, "refer back"),
    "no pattern": ({"pattern": "("}, "regular expression"),
    "a long pattern": ({"pattern": "a" * 1100}, "'pattern'"),
    "unknown format": ({"format": "phone"}, "'format'"),
    "format a list": ({"format": ["date"]}, "'format'"),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_supported_schema_passes(case: str) -> None:
    check(GOOD[case])


@pytest.mark.parametrize("case", BAD)
def test_anything_else_is_refused_in_words(case: str) -> None:
    schema, words = BAD[case]
    with pytest.raises(ValueError, match=words.replace("$", r"\$").replace("(", r"\(")):
        check(schema)


KEYWORDS = [
    "type", "properties", "required", "additionalProperties", "items", "minItems", "enum", "const", "anyOf",
    "$ref", "$defs", "minLength", "pattern", "format", "minimum", "title", "oneOf",
]  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["string", "#"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYWORDS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(KEYWORDS), VALUES, max_size=5))
def test_no_schema_whatever_breaks_the_check(schema: dict[str, Any]) -> None:
    with suppress(ValueError):
        check(schema)
