"""A plain schema as a grammar in the notation of GBNF, which xgrammar reads: the layout of an answer is ours.

xgrammar's own way from a schema to a grammar leaves any number of blanks between the parts, digits without
end, and takes seconds for a long text. Here the layout is that of Python's json, everything has an end, and
what the notation cannot say is left open: a length beside a pattern, steps of numbers that are not whole, and
that keys differ. Pure; knows the plain schemas of `generation.plain_schema` and no others.
Source of the notation: llama.cpp's grammars/README.md; xgrammar's documentation, "EBNF".
"""

from __future__ import annotations

import json
from typing import Any

from model_code.serving.engines.grammar_numbers import LARGEST, multiples, numbers, whole_numbers
from model_code.serving.engines.grammar_patterns import UnsupportedPatternError, pattern_grammar

LONGEST_COUNT = 16
"""Lengths of texts, and items that hold texts, are counted so far: xgrammar prepares the whole vocabulary for
each count. Beyond it a bound is left open."""
MOST_ITEMS = 256
"""Items that hold no text are counted so far."""
MOST_COUNTED = 64
"""Lengths of all texts of a schema together are counted so far."""
_MOST_VALUES = 1_000
_MOST_REMAINDERS = 64
_HEX = "[0-9a-fA-F]"
_DATE = '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [1-2] [0-9] | "3" [0-1])'
_CLOCK = '([0-1] [0-9] | "2" [0-3]) ":" [0-5] [0-9]'
_TIME = f'{_CLOCK} ":" [0-5] [0-9] ("." [0-9]{{1,6}})? ("Z" | [+-] {_CLOCK})'
_BYTE = '("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9])'
_LABEL = "[a-zA-Z0-9] ([a-zA-Z0-9-]* [a-zA-Z0-9])?"
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "duration": '"P" ([0-9]{1,4} "W" | [0-9]{1,4} "D" ("T" [0-9]{1,4} [HMS])? | "T" [0-9]{1,4} [HMS])',
    "email": f'[a-zA-Z0-9_+-]+ ("." [a-zA-Z0-9_+-]+)* "@" {_LABEL} ("." {_LABEL})+',
    "hostname": f'{_LABEL} ("." {_LABEL})*',
    "ipv4": f'{_BYTE} ("." {_BYTE}){{3}}',
    "ipv6": f'({_HEX}{{1,4}} ":"){{7}} {_HEX}{{1,4}}',
    "uuid": f'{_HEX}{{8}} "-" {_HEX}{{4}} "-" {_HEX}{{4}} "-" {_HEX}{{4}} "-" {_HEX}{{12}}',
}
_PLAIN = r'[^"\\\x00-\x1f\x7f]'
_ESCAPE = rf'["\\/bfnrt] | "u" {_HEX}{{4}}'

Schema = dict[str, Any]


def schema_grammar(schema: str) -> str:
    """The grammar of a plain schema's JSON text."""
    parsed = json.loads(schema)
    rules = _Rules()
    for name, part in parsed.get("$defs", {}).items():
        rules.define(f"def-{name}", rules.of(part))
    return rules.text(rules.of(parsed))


class _Rules:
    """The rules so far. What is alike is one rule."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {
            "escape": _ESCAPE,
            "text": rf'"\"" | {_PLAIN} text | "\\" escape text',  # to its closing quote
        }
        self._known: dict[str, str] = {}
        self._counted = 0

    def define(self, name: str, body: str) -> str:
        self._rules[name] = body
        return name

    def text(self, root: str) -> str:
        lines = [f"root ::= {root}", *(f"{name} ::= {body}" for name, body in self._rules.items())]
        return "\n".join(lines) + "\n"

    def _shared(self, body: str) -> str:
        """A rule of that body."""
        if body not in self._known:
            self._known[body] = self.define(f"x{len(self._known)}", body)
        return self._known[body]

    def of(self, schema: Schema) -> str:
        """The name of the rule of a schema."""
        if "$ref" in schema:
            return f"def-{schema['$ref'].rpartition('/')[2]}"
        if "anyOf" in schema:
            return self._shared(" | ".join(self.of(part) for part in schema["anyOf"]))
        if "enum" in schema:
            return self._shared(" | ".join(_literal(json.dumps(value)) for value in schema["enum"]))
        kind = schema["type"]
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            return self._array(schema)
        if kind == "string":
            return self._shared(self._text(schema))
        if kind in ("integer", "number"):
            return self._number(schema)
        return self._shared('"null"' if kind == "null" else '"true" | "false"')

    def _number(self, schema: Schema) -> str:
        low, high, step = schema["minimum"], schema["maximum"], schema.get("multipleOf", 1)
        if schema["type"] == "number" and step < 1:
            return self._shared(numbers(low, high))
        low, high, step = int(low), int(high), int(step)
        if step > 1 and (high - low) // step <= _MOST_VALUES:
            values = range(-(-low // step) * step, high + 1, step)
            return self._shared(" | ".join(f'"{value}"' for value in values) or '"0"')
        if 1 < step <= _MOST_REMAINDERS and high == LARGEST and low in (-LARGEST, 0, 1):
            prefix = f"m{step}-{'n' if low < 0 else low}"
            for name, body in multiples(step, prefix, low):
                self.define(name, body)
            return f"{prefix}-0"
        return self._shared(whole_numbers(low, high))

    def _text(self, schema: Schema) -> str:
        if "pattern" in schema:
            try:
                return f'"\\"" {pattern_grammar(schema["pattern"])} "\\""'
            except UnsupportedPatternError:
                return '"\\"" text'
        if "format" in schema:
            return f'"\\"" {_FORMATS[schema["format"]]} "\\""'
        low, high = min(schema.get("minLength", 0), LONGEST_COUNT), schema["maxLength"]
        count = high if high <= LONGEST_COUNT else low
        if not count or self._counted + count > MOST_COUNTED:
            return '"\\"" text'
        self._counted += count
        if high <= LONGEST_COUNT:
            return f'"\\"" {_PLAIN}{{{low},{high}}} "\\""'
        return f'"\\"" {_PLAIN}{{{low}}} text'

    def _array(self, schema: Schema) -> str:
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        most = LONGEST_COUNT if _holds_text(schema.get("items")) else MOST_ITEMS
        low, high = min(low, most), None if high is None or high > most else high
        if "prefixItems" in schema:
            return self._tuple([self.of(part) for part in schema["prefixItems"]], low)
        if schema["items"] is False or high == 0:
            return self._shared('"[]"')
        return self._list(self.of(schema["items"]), low, high)

    def _list(self, item: str, low: int, high: int | None) -> str:
        """A list of alike items. One without an end is a rule that calls itself: xgrammar is quickest so."""
        if high is None:
            ending = f"{item}-items"
            self.define(ending, f'"]" | ", " {item} {ending}')
            further = f'(", " {item}){{{low - 1}}} {ending}' if low > 1 else ending
        else:
            further = f'(", " {item}){{{max(low - 1, 0)},{high - 1}}} "]"'
        filled = f'"[" {item} {further}'
        return self._shared(filled if low else f'"[]" | {filled}')

    def _tuple(self, items: list[str], low: int) -> str:
        rest = ""
        for number in range(len(items) - 1, -1, -1):
            separator = '", " ' if number else ""
            rest = f"{separator}{items[number]} {rest}".rstrip()
            rest = rest if number < low else f"({rest})?"
        return self._shared(f'"[" {rest} "]"')

    def _object(self, schema: Schema) -> str:
        if "properties" not in schema:
            return self._map(schema["additionalProperties"])
        required = set(schema["required"])
        # What may follow once something is written, and what may come first: one rule for each property.
        after = before = '""'
        for name in reversed(schema["properties"]):
            pair = f"{_literal(json.dumps(name) + ': ')} {self.of(schema['properties'][name])}"
            ending = "" if after == '""' else f" {after}"
            begun = f'", " {pair}{ending}'
            first = f"{pair}{ending}"
            if name in required:
                after, before = self._shared(begun), self._shared(first)
            else:
                after = self._shared(f"{begun} | {after}")
                before = self._shared(f"{first} | {before}")
        return self._shared(f'"{{" {before} "}}"')

    def _map(self, others: Schema | bool) -> str:
        if others is False or others is True:
            return self._shared('"{}"')
        pair = self._shared(f'"\\"" text ": " {self.of(others)}')
        return self._shared(f'"{{}}" | "{{" {pair} (", " {pair})* "}}"')


def _holds_text(schema: Any) -> bool:
    """Whether any text may stand in a value: what refers elsewhere may hold anything."""
    if not isinstance(schema, dict):
        return False
    if "$ref" in schema or schema.get("type") == "string":
        return True
    inner = [*schema.get("anyOf", []), *schema.get("prefixItems", []), *schema.get("properties", {}).values()]
    return any(map(_holds_text, [*inner, schema.get("items"), schema.get("additionalProperties")]))


def _literal(text: str) -> str:
    """A text as the grammar quotes it."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'
