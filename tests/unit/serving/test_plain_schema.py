"""Any schema becomes a plain one: what keeps to that keeps to the schema, and it ends."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from contracts.chat import ChatRequest
from contracts.tools import Function, ResponseFormat
from model_code.serving.engines.schema_grammar import schema_grammar
from model_code.serving.generation.plain_scalars import LARGEST_NUMBER, MAX_TEXT
from model_code.serving.generation.plain_schema import PlainSchema
from model_code.serving.generation.structured_output import answer_schema, call_schema
from tests.support.client_requests import USER, tool
from tests.support.tool_schemas import ALL
from tests.unit.serving.test_json_schema import KEYWORDS, VALUES

# What no engine is asked for: an answer keeps to the rest of the schema.
WIDENED = {"uniqueItems", "propertyNames", "not", "pattern", "patternProperties"}


def plain(schema: dict[str, Any]) -> dict[str, Any]:
    own = PlainSchema()
    text: dict[str, Any] = json.loads(own.text(own.of(schema)))
    return text


class Sample:
    """Values that keep to a plain schema, small ones rather than large."""

    def __init__(self, schema: dict[str, Any], seed: int) -> None:
        self._random, self._definitions = random.Random(seed), schema.get("$defs", {})
        self.value = self._of(schema, 0)

    def _of(self, schema: Any, level: int) -> Any:
        if "$ref" in schema:
            return self._of(self._definitions[schema["$ref"].rpartition("/")[2]], level + 1)
        if "anyOf" in schema:
            choices = schema["anyOf"]
            return self._of(self._random.choice(choices) if level < 12 else choices[-1], level + 1)
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        return getattr(self, f"_{schema['type']}")(schema, level)

    def _object(self, schema: Any, level: int) -> Any:
        if "properties" not in schema:
            others = schema["additionalProperties"]
            keys = ["k"] if others is not False and level < 12 and self._random.random() < 0.5 else []
            return {key: self._of(others, level + 1) for key in keys}
        return {
            name: self._of(part, level + 1)
            for name, part in schema["properties"].items()
            if name in schema["required"] or (level < 12 and self._random.random() < 0.5)
        }

    def _array(self, schema: Any, level: int) -> Any:
        prefix = [self._of(part, level + 1) for part in schema.get("prefixItems", [])]
        if schema["items"] is False:
            return prefix[: self._random.randint(schema.get("minItems", 0), len(prefix))] if prefix else []
        low = schema.get("minItems", 0)
        high = min(schema.get("maxItems", low + 2), low + (2 if level < 12 else 0))
        return [self._of(schema["items"], level + 1) for _ in range(self._random.randint(low, high))]

    def _string(self, schema: Any, level: int) -> str:
        low = schema.get("minLength", 0)
        return "x" * self._random.randint(low, min(schema.get("maxLength", low), low + 3))

    def _integer(self, schema: Any, level: int) -> int:
        step = schema.get("multipleOf", 1)
        low, high = -(-schema["minimum"] // step), schema["maximum"] // step
        return int(self._random.randint(int(low), int(high)) * step)

    def _number(self, schema: Any, level: int) -> float:
        if schema["multipleOf"] >= 1:
            return self._integer(schema, level)
        return float(self._random.choice([schema["minimum"], schema["maximum"]]))

    def _boolean(self, schema: Any, level: int) -> bool:
        return self._random.random() < 0.5

    def _null(self, schema: Any, level: int) -> None:
        return None


def keywords(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(keywords, schema))
    if not isinstance(schema, dict):
        return set()
    return set(schema).union(*map(keywords, schema.values()))


@pytest.mark.parametrize("name", ALL)
def test_what_keeps_to_the_plain_form_keeps_to_the_schema(name: str) -> None:
    schema = ALL[name]
    validator, form = validator_for(schema, Draft202012Validator)(schema), plain(schema)
    said = keywords(schema)
    if (
        said & WIDENED
        or name.startswith("zod openapi")
        or ("multipleOf" in said and '"number"' in json.dumps(schema))
    ):
        pytest.skip("widened, no JSON Schema but OpenAPI's, or a step that floating point cannot check")
    for seed in range(20):
        value = Sample(form, seed).value
        assert not list(validator.iter_errors(value)), value


@pytest.mark.parametrize("name", ALL)
def test_no_schema_of_a_tool_is_refused(name: str) -> None:
    body = {"model": "m", "messages": [USER], "tools": [tool(ALL[name])]}
    [each] = ChatRequest.model_validate_json(json.dumps(body)).tools or []
    for loose in (False, True):
        schema = call_schema([each.function, Function(name="other")], loose=loose)
        assert schema_grammar(schema).startswith("root ::= ")


def test_there_are_as_many_as_promised() -> None:
    assert len(ALL) >= 200


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bounds beyond counting are dropped": (
        {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**53 - 1},
        {"type": "integer", "minimum": -LARGEST_NUMBER, "maximum": LARGEST_NUMBER},
    ),
    "bounds within it stay": (
        {"type": "integer", "minimum": 3, "exclusiveMaximum": 9},
        {"type": "integer", "minimum": 3, "maximum": 8},
    ),
    "draft 4's exclusive bounds": (
        {"type": "integer", "minimum": 3, "exclusiveMinimum": True, "maximum": 5},
        {"type": "integer", "minimum": 4, "maximum": 5},
    ),
    "lengths beyond counting are dropped": (
        {"type": "string", "maxLength": 10**9, "minLength": 2},
        {"type": "string", "minLength": 2, "maxLength": MAX_TEXT},
    ),
    "a pattern that looks around is dropped": (
        {"type": "string", "pattern": "^(?=a)b$"},
        {"type": "string", "maxLength": MAX_TEXT},
    ),
    "no parameters are no properties": (
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    ),
    "all of several": (
        {"allOf": [{"type": "object", "properties": {"a": {"type": "null"}}}, {"required": ["a"]}]},
        {
            "type": "object",
            "properties": {"a": {"type": "null"}},
            "required": ["a"],
            "additionalProperties": False,
        },
    ),
    "a tuple": (
        {"type": "array", "items": [{"type": "null"}, {"type": "boolean"}]},
        {
            "type": "array",
            "prefixItems": [{"type": "null"}, {"type": "boolean"}],
            "items": False,
            "minItems": 2,
            "maxItems": 2,
        },
    ),
    "nothing among the choices": ({"anyOf": [False, {"type": "null"}]}, {"type": "null"}),
    "OpenAPI's nullable": (
        {"type": "boolean", "nullable": True},
        {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    ),
    "types implied by keywords": ({"maxLength": 5}, {"type": "string", "maxLength": 5}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_keyword_means_what_it_says_in_fewer_words(case: str) -> None:
    schema, expected = CASES[case]
    assert plain(schema) == expected


def test_references_lead_anywhere_inside_the_schema_and_stay_apart() -> None:
    one = {"type": "object", "properties": {"a": {"$ref": "#/properties/b"}, "b": {"enum": [1]}}}
    other = {"$defs": {"x": {"$defs": {"y": {"enum": [2]}}}}, "$ref": "#/$defs/x/$defs/y"}
    functions = [
        Function(name="f", parameters=one),
        Function(name="g", parameters={"type": "object", **other}),
    ]
    schema = json.loads(call_schema(functions))
    values = {tuple(part["enum"]) for part in schema["$defs"].values()}
    assert values == {(1,), (2,)}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"$defs": {"n": {"allOf": [{"$ref": "#/$defs/n"}, {"type": "object"}]}}, "$ref": "#/$defs/n"},
        {"$ref": "https://example.com/schema"},
        {"properties": {"next": {"allOf": [{"$ref": "#"}, {"type": "object"}]}}, "required": ["next"]},
    ],
    ids=str,
)
def test_what_leads_nowhere_is_anything(schema: dict[str, Any]) -> None:
    assert schema_grammar(json.dumps(plain(schema)))


def test_many_parts_take_little_time() -> None:
    part: dict[str, Any] = {"type": "string"}
    for _ in range(6):
        part = {"anyOf": [part] * 8}
    began = time.process_time()
    schema_grammar(json.dumps(plain({"type": "object", "properties": {f"p{i}": part for i in range(50)}})))
    assert time.process_time() - began < 5


@given(
    st.dictionaries(
        st.sampled_from([*KEYWORDS, "allOf", "prefixItems", "exclusiveMinimum"]), VALUES, max_size=5
    )
)
def test_no_schema_whatever_breaks_it(schema: dict[str, Any]) -> None:
    assert schema_grammar(json.dumps(plain(schema))).startswith("root ::= ")


def test_an_answer_beside_tools_is_the_one_or_the_other() -> None:
    wanted = ResponseFormat.model_validate(
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["yes"]}}}
    )
    schema = json.loads(answer_schema(wanted, [Function(name="f")]))
    answer, call = schema["anyOf"]
    assert answer == {"enum": ["yes"]}
    assert call["properties"]["name"] == {"enum": ["f"]}
    assert call["properties"]["arguments"] == {"type": "object", "additionalProperties": False}
