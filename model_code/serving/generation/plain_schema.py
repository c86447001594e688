"""Any JSON Schema as one of a few keywords, to which every engine can hold an answer.

What is left out widens the schema where it must (`not`, `uniqueItems`, a pattern that looks around, bounds
that no engine counts to) and narrows it where it may: objects have their declared properties and no others,
numbers and texts have an end, and "anything" is nested a few levels deep. So an answer ends, whatever the
schema leaves open. Knows nothing of engines.
Source of the keywords: JSON Schema 2020-12, and drafts 4 to 7 where they differ.

The keywords of the result: `enum`; `anyOf`; `$ref` to `$defs` at its top; `type` (one) with `properties`,
`required`, `additionalProperties` (a schema or false), `prefixItems`, `items` (a schema or false),
`minItems`, `maxItems`, `minLength`, `maxLength`, `pattern`, `format`, `minimum`, `maximum`, `multipleOf`.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from contracts.json_schema import MAX_ENUM_VALUES
from model_code.serving.generation.plain_scalars import item_count, plain_number, plain_text

_ANY_LEVELS = 4
_MAX_LEVELS = 32
_MAX_PARTS = 8_000
_MAX_MERGES = 64

_IMPLIED = {
    "properties": "object", "required": "object", "additionalProperties": "object",
    "patternProperties": "object", "propertyNames": "object", "items": "array", "prefixItems": "array",
    "minItems": "array", "maxItems": "array", "uniqueItems": "array", "pattern": "string", "format": "string",
    "minLength": "string", "maxLength": "string", "minimum": "number", "maximum": "number",
    "exclusiveMinimum": "number", "exclusiveMaximum": "number", "multipleOf": "number",
}  # fmt: skip
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")

Schema = dict[str, Any]


class PlainSchema:
    """Schemas under way to one plain schema: each has its own references, all share the definitions."""

    def __init__(self) -> None:
        self._definitions: dict[str, Schema] = {}
        self._names: dict[tuple[int, str], str] = {}
        self._waiting: deque[tuple[str, Any, Schema]] = deque()  # a definition's name, its schema, its root
        self._roots: list[Schema] = []  # kept, since their identity is part of a name
        self._parts = 0
        self._level = 0

    def of(self, root: Schema) -> Schema:
        """The plain form of a whole schema; what it refers to is kept for `text`."""
        self._roots.append(root)
        part = self._part(root, root)
        while self._waiting:
            name, schema, own_root = self._waiting.popleft()
            self._definitions[name] = self._part(schema, own_root) or self.anything()
        return part or self.anything()

    def anything(self, levels: int = _ANY_LEVELS) -> Schema:
        """Any value, nested so deep."""
        name = f"any{levels}"
        if name not in self._definitions:
            scalars = [plain_text({}), plain_number({}), {"type": "boolean"}, {"type": "null"}]
            nested: list[Schema] = []
            if levels:
                inner = self.anything(levels - 1)
                nested = [
                    {"type": "array", "items": inner},
                    {"type": "object", "additionalProperties": inner},
                ]
            self._definitions[name] = {"anyOf": [*nested, *scalars]}
        return {"$ref": f"#/$defs/{name}"}

    def text(self, top: Schema) -> str:
        """The whole as JSON text."""
        for name in _endless(self._definitions):
            self._definitions[name] = self.anything()
        return json.dumps({**top, "$defs": self._definitions} if self._definitions else top)

    def _part(self, schema: Any, root: Schema) -> Schema | None:
        """The plain form of a schema inside `root`; None where nothing keeps to it."""
        self._parts += 1
        if schema is False:
            return None
        if not isinstance(schema, dict) or self._parts > _MAX_PARTS or self._level == _MAX_LEVELS:
            return self.anything()
        self._level += 1  # `allOf` of a schema within itself would go on for ever
        try:
            return self._plain(self._merged(schema, root), root)
        finally:
            self._level -= 1

    def _plain(self, schema: Schema, root: Schema) -> Schema | None:
        if isinstance(schema.get("$ref"), str):
            return self._reference(schema["$ref"], root)
        for keyword in ("oneOf", "anyOf"):
            if isinstance(schema.get(keyword), list):
                return self._choice(schema, keyword, root)
        if (values := _values(schema)) is not None:
            return {"enum": values} if values else None
        kinds = _kinds(schema)
        parts = [self._typed(kind, schema, root) for kind in kinds]
        return _any_of(parts) if parts else self.anything()

    def _choice(self, schema: Schema, keyword: str, root: Schema) -> Schema | None:
        """A schema with branches: what stands beside them holds for each."""
        beside = {key: value for key, value in schema.items() if key != keyword}
        common = beside if beside.keys() & {*_IMPLIED, "type", "enum", "const", "anyOf"} else {}
        parts = [
            self._part({"allOf": [common, branch]} if common else branch, root) for branch in schema[keyword]
        ]
        known = [part for part in parts if part is not None]
        return _any_of(known) if known else None

    def _reference(self, reference: str, root: Schema) -> Schema:
        target = _target(reference, root)
        if target is None:
            return self.anything()
        key = (id(root), reference)
        if key not in self._names:
            self._names[key] = f"d{len(self._names)}"
            self._waiting.append((self._names[key], target, root))
        return {"$ref": f"#/$defs/{self._names[key]}"}

    def _merged(self, schema: Schema, root: Schema) -> Schema:
        """`allOf` as one schema; where its parts contradict one another, the last one holds."""
        for _ in range(_MAX_MERGES):
            inner = schema.get("allOf")
            if not isinstance(inner, list) or not inner:
                return schema
            schema = {key: value for key, value in schema.items() if key != "allOf"}
            alone = not schema.keys() & {*_IMPLIED, "type", "enum", "const", "anyOf", "oneOf"}
            if alone and len(inner) == 1 and isinstance(inner[0], dict):
                schema = inner[0]
                continue
            for part in inner:
                if isinstance(part, dict) and isinstance(part.get("$ref"), str):
                    part = _target(part["$ref"], root)
                if isinstance(part, dict):
                    schema = _joined(schema, part)
        return {}

    def _typed(self, kind: str, schema: Schema, root: Schema) -> Schema:
        if kind == "object":
            return self._object(schema, root)
        if kind == "array":
            return self._array(schema, root)
        if kind == "string":
            return plain_text(schema)
        if kind in ("integer", "number"):
            return plain_number(schema, whole=kind == "integer")
        return {"type": kind}

    def _object(self, schema: Schema, root: Schema) -> Schema:
        declared = schema.get("properties")
        given = declared if isinstance(declared, dict) else {}
        parts = {name: self._part(part, root) for name, part in given.items()}
        properties = {name: part for name, part in parts.items() if part is not None}
        named = schema.get("required")
        required = [name for name in (named if isinstance(named, list) else []) if isinstance(name, str)]
        others = schema.get("additionalProperties", True)
        for name in required:
            if name not in given:
                properties[name] = self._part(others, root) or self.anything()
        if properties or (isinstance(declared, dict) and "additionalProperties" not in schema):
            needed = [name for name in properties if name in required]
            closed = {"required": needed, "additionalProperties": False}
            return {"type": "object", "properties": properties, **closed}
        if isinstance(patterns := schema.get("patternProperties"), dict) and patterns:
            others = {"anyOf": list(patterns.values())}
        return {"type": "object", "additionalProperties": self._part(others, root) or False}

    def _array(self, schema: Schema, root: Schema) -> Schema:
        items = schema.get("items", True)
        prefix = schema.get("prefixItems", items if isinstance(items, list) else [])
        prefix = prefix if isinstance(prefix, list) else []
        low, high = item_count(schema, "minItems"), item_count(schema, "maxItems")
        if prefix:  # a tuple: what it names, and no more
            places = [self._part(part, root) or self.anything() for part in prefix]
            end = len(places) if high is None else min(high, len(places))
            start = end if low is None else min(low, end)
            bounds = {"minItems": start, "maxItems": end}
            return {"type": "array", "prefixItems": places[:end], "items": False, **bounds}
        inner = self._part(items, root)
        if inner is None:
            return {"type": "array", "items": False, "maxItems": 0}
        plain: Schema = {"type": "array", "items": inner}
        if low is not None and (high is None or low <= high):
            plain["minItems"] = low
        if high is not None:
            plain["maxItems"] = high
        return plain


def _any_of(parts: list[Schema]) -> Schema:
    return parts[0] if len(parts) == 1 else {"anyOf": parts}


def _values(schema: Schema) -> list[Any] | None:
    """The only values allowed; None where there is no such list, or too long a one."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) and len(values) <= MAX_ENUM_VALUES else None


def _kinds(schema: Schema) -> list[str]:
    """The types of a value, named or implied by the keywords; none where it may be anything."""
    named = schema.get("type")
    if named is None:
        kinds = [kind for kind in _TYPES if kind in {_IMPLIED[key] for key in schema if key in _IMPLIED}]
    else:
        kinds = [kind for kind in (named if isinstance(named, list) else [named]) if kind in _TYPES]
        kinds = list(dict.fromkeys(kinds))
    if kinds and schema.get("nullable") is True and "null" not in kinds:  # OpenAPI 3.0
        kinds.append("null")
    return kinds


def _joined(first: Schema, second: Schema) -> Schema:
    """What both say: properties and demands of both; where they contradict, the second's."""
    both = {**first, **second}
    for keyword in ("properties", "patternProperties"):
        one, other = first.get(keyword), second.get(keyword)
        if isinstance(one, dict) and isinstance(other, dict):
            both[keyword] = {**one, **other}
    one, other = first.get("required"), second.get("required")
    if isinstance(one, list) and isinstance(other, list):
        both["required"] = [*one, *other]
    if isinstance(one := first.get("allOf"), list) and isinstance(other := second.get("allOf"), list):
        both["allOf"] = [*one, *other]
    return both


def _target(reference: str, root: Schema) -> Any:
    """What a JSON pointer into `root` names; None where it leads nowhere."""
    if not reference.startswith("#"):
        return None
    found: Any = root
    for step in [piece for piece in reference[1:].split("/") if piece]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, dict) and key in found:
            found = found[key]
        else:
            return None
    return found if isinstance(found, dict | bool) else None


def _endless(definitions: dict[str, Schema]) -> set[str]:
    """The definitions that lead back to themselves with no text in between: nothing keeps to those."""
    leads_to = {name: _reached(part) for name, part in definitions.items()}
    while ends := [name for name, targets in leads_to.items() if not targets & leads_to.keys()]:
        for name in ends:
            del leads_to[name]
    return set(leads_to)


def _reached(part: Schema) -> set[str]:
    found, waiting = set(), [part]
    while waiting:
        here = waiting.pop()
        if "$ref" in here:
            found.add(here["$ref"].rpartition("/")[2])
        waiting += here.get("anyOf", [])
    return found
