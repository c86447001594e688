"""What a client written against one version of the API would stumble over in another.

    python -m tests.support.openapi_changes      # hold the API of now as the released one

What a client sends must stay accepted, and what it reads must stay of the kinds it knows. New paths, new
optional fields, wider limits, new fields in replies and new values in a reply's enumeration are
additions. The command refuses where something would break: that takes a major version and a file of its
own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERSION_ONE = Path(__file__).with_name("openapi_v1.json")
"""The API as clients of version 1 know it."""

_AT_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_AT_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
Schema = dict[str, Any]


def breaks(old: Schema, new: Schema) -> list[str]:
    """One sentence for each thing that is gone, narrower, newly demanded, or of another kind."""
    found: list[str] = []
    for path, verb, before in _operations(old):
        now = new["paths"].get(path, {}).get(verb)
        where = f"{verb} {path}"
        if now is None:
            found.append(f"{where} is gone")
            continue
        if now.get("operationId") != before.get("operationId"):
            found.append(f"{where} has another operationId")
        if _security(old, before) != _security(new, now):
            found.append(f"{where} asks for other credentials")
        found += _parameters(old, new, before, now, where)
        found += _requests(old, new, before, now, where)
        found += _replies(old, new, before, now, where)
    return list(dict.fromkeys(found))


def _operations(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            yield path, verb, operation


def _security(document: Schema, operation: Schema) -> Any:
    return operation.get("security", document.get("security"))


def _parameters(old: Schema, new: Schema, before: Schema, now: Schema, where: str) -> Iterator[str]:
    known = {(p["in"], p["name"]): p for p in before.get("parameters", [])}
    given = {(p["in"], p["name"]): p for p in now.get("parameters", [])}
    for key, parameter in known.items():
        named = f"{where}: parameter {key[1]}"
        if key not in given:
            yield f"{named} is gone"
            continue
        yield from _Comparison(old, new).sent(parameter["schema"], given[key]["schema"], named)
    for key, parameter in given.items():
        if parameter.get("required") and not known.get(key, {}).get("required"):
            yield f"{where}: parameter {key[1]} has become required"


def _requests(old: Schema, new: Schema, before: Schema, now: Schema, where: str) -> Iterator[str]:
    demanded = now.get("requestBody", {}).get("required", False)
    if demanded and not before.get("requestBody", {}).get("required", False):
        yield f"{where}: a body has become required"
    contents = now.get("requestBody", {}).get("content", {})
    for media, content in before.get("requestBody", {}).get("content", {}).items():
        if media not in contents:
            yield f"{where}: {media} is not accepted any more"
            continue
        before_it, after_it = content.get("schema", {}), contents[media].get("schema", {})
        name = before_it.get("$ref", where).rpartition("/")[2]
        yield from _Comparison(old, new).sent(before_it, after_it, name)


def _replies(old: Schema, new: Schema, before: Schema, now: Schema, where: str) -> Iterator[str]:
    for status, reply in before["responses"].items():
        if status not in now["responses"]:
            yield f"{where} lost its reply {status}"
            continue
        contents = now["responses"][status].get("content", {})
        for media, content in reply.get("content", {}).items():
            if media not in contents:
                yield f"{where}: a {status} is not {media} any more"
                continue
            before_it, after_it = content.get("schema", {}), contents[media].get("schema", {})
            name = before_it.get("$ref", where).rpartition("/")[2]
            yield from _Comparison(old, new).read(before_it, after_it, name)


class _Comparison:
    """Two versions of one schema: whether what one side gives is what the other side takes."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old, new
        self._under_way: set[tuple[str, str]] = set()

    def sent(self, old: Schema, new: Schema, where: str) -> list[str]:
        """Problems of a client that sends what the old schema allows."""
        return self._fits(old, new, where, sending=True)

    def read(self, old: Schema, new: Schema, where: str) -> list[str]:
        """Problems of a client that reads by the old schema."""
        return self._fits(new, old, where, sending=False)

    def _fits(self, given: Schema, taken: Schema, where: str, *, sending: bool) -> list[str]:
        """Why a value of `given` may be none of `taken`. A schema within itself is asked about once."""
        pair = (str(given.get("$ref")), str(taken.get("$ref")))
        if "$ref" in given and "$ref" in taken:
            if pair in self._under_way:
                return []
            self._under_way.add(pair)
        givers, takers = (self._old, self._new) if sending else (self._new, self._old)
        found: list[str] = []
        for one in _alternatives(givers, given):
            tries = [self._one(one, other, where, sending) for other in _alternatives(takers, taken)]
            found += min(tries, key=len)
        self._under_way.discard(pair)
        return found

    def _one(self, given: Schema, taken: Schema, where: str, sending: bool) -> list[str]:
        if not set(taken) - {"title", "description", "default"}:
            return []  # anything goes
        found = _kinds(given, taken, where, sending) + _limits(given, taken, where, sending)
        if found:
            return found
        if "items" in taken:
            found += self._fits(given.get("items", {}), taken["items"], f"{where}[]", sending=sending)
        found += self._fields(given, taken, where, sending)
        if isinstance(taken.get("additionalProperties"), dict):
            inside = given.get("additionalProperties", {})
            inside = inside if isinstance(inside, dict) else {}
            found += self._fits(inside, taken["additionalProperties"], f"{where}.*", sending=sending)
        return found

    def _fields(self, given: Schema, taken: Schema, where: str, sending: bool) -> list[str]:
        old, new = (given, taken) if sending else (taken, given)
        before, now = old.get("properties", {}), new.get("properties", {})
        found = [f"{where}.{name} is gone" for name in sorted(set(before) - set(now))]
        demanded = sorted((set(taken.get("required", [])) - set(given.get("required", []))) & set(now))
        words = "has become required" if sending else "may be missing now"
        found += [f"{where}.{name} {words}" for name in demanded]
        for name in sorted(set(before) & set(now)):
            one, other = (before[name], now[name]) if sending else (now[name], before[name])
            found += self._fits(one, other, f"{where}.{name}", sending=sending)
        closed = new.get("additionalProperties") is False and old.get("additionalProperties") is not False
        if sending and now and closed:
            found.append(f"{where} takes no other fields any more")
        return found


def _alternatives(document: Schema, schema: Schema) -> list[Schema]:
    """A schema as the list of plain ones that it is any of."""
    if "$ref" in schema:
        return _alternatives(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return [plain for one in schema[word] for plain in _alternatives(document, one)]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return [schema]


def _values(schema: Schema) -> set[str] | None:
    """The only values allowed; None where there is no such list."""
    if "const" in schema:
        return {json.dumps(schema["const"])}
    return {json.dumps(value) for value in schema["enum"]} if "enum" in schema else None


def _kinds(given: Schema, taken: Schema, where: str, sending: bool) -> list[str]:
    kind, wanted = given.get("type"), taken.get("type")
    if wanted is not None and kind != wanted and (kind, wanted) != ("integer", "number"):
        return [f"{where} is not {kind} any more" if sending else f"{where} may be {kind} now"]
    allowed, known = _values(given), _values(taken)
    if known is None:
        return []
    if allowed is None:
        return [f"{where} takes only certain values now"] if sending else []
    if not sending:  # a reply may learn new words, but one that had a single word keeps it
        return [] if allowed & known else [f"{where} has other values now"]
    return [f"{where} does not take {value} any more" for value in sorted(allowed - known)]


def _limits(given: Schema, taken: Schema, where: str, sending: bool) -> list[str]:
    if not sending:
        return []
    low, high = float("-inf"), float("inf")
    if isinstance(given.get("const"), int | float):  # a single number is its own least and most
        low = high = given["const"]
    raised = [name for name in _AT_LEAST if name in taken and given.get(name, low) < taken[name]]
    lowered = [name for name in _AT_MOST if name in taken and given.get(name, high) > taken[name]]
    changed = [name for name in ("pattern", "format") if name in taken and given.get(name) != taken[name]]
    found = [f"{where} has a higher {name}" for name in raised]
    found += [f"{where} has a lower {name}" for name in lowered]
    found += [f"{where} has another {name}" for name in changed]
    return found


def main() -> int:
    """Writes the document of now over the released one, unless that would break a client."""
    from lambdas.api.openapi import document

    new = json.loads(json.dumps(document()))
    found = breaks(json.loads(VERSION_ONE.read_text()), new)
    if found:
        print("evergreen: not released, since clients would break:\n  " + "\n  ".join(found), file=sys.stderr)
        return 1
    VERSION_ONE.write_text(json.dumps(new, indent=2, sort_keys=True) + "\n")
    print(f"held: {VERSION_ONE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
