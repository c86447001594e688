"""The small part of API Gateway's mapping templates (VTL) that preflight answers use.

Offered: text, `$context…` and `$stageVariables…` references, own variables, `#set`, `#if/#elseif/#else/#end`
with `==`, `!=`, `&&`, `||`, `.matches("…")`, `$input.params().header.get("…")`, `$input.params("…")` and
assignments to `$context.responseOverride.header.…`. Anything else is a TemplateError, never passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from local.cloud.rest_api.http_messages import Request

_OVERRIDE = "context.responseOverride.header."
_DIRECTIVE = re.compile(r"#(set|if|elseif|else|end)\b")
_REFERENCE = re.compile(r"\$!?\{?([A-Za-z][\w-]*(?:\.[A-Za-z][\w-]*)*)\}?(?![\w(])")
_HEADER = re.compile(r"""^\$input\.params\(\)\.header\.get\(["']([^"']+)["']\)$""")
_PARAMETER = re.compile(r"""^\$input\.params\(["']([^"']+)["']\)$""")
_MATCHES = re.compile(r"""^(\$[\w.]+)\.matches\("([^"]*)"\)$""")


class TemplateError(Exception):
    """A template that uses what is not offered here; the message quotes it."""


@dataclass
class Rendered:
    """A rendered template: its text, and the response headers it overrode."""

    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def render(template: str, variables: Mapping[str, str], request: Request) -> Rendered:
    """Render a template. `variables` are looked up by their dotted name without the dollar sign."""
    result = Rendered()
    values = dict(variables)
    open_blocks: list[_Block] = []
    position = 0
    while True:
        found = _DIRECTIVE.search(template, position)
        active = all(block.active for block in open_blocks)
        if active:
            result.text += _substitute(template[position : found.start() if found else None], values)
        if not found:
            break
        position = found.end()
        if found[1] in ("set", "if", "elseif"):
            expression, position = _parenthesised(template, position)
            if found[1] == "set" and active:
                _assign(expression, values, result, request)
            elif found[1] == "if":
                open_blocks.append(_Block(active and _truth(expression, values, request)))
            elif found[1] == "elseif":
                block = _last(open_blocks)
                block.turn(not block.taken and _truth(expression, values, request))
        elif found[1] == "else":
            block = _last(open_blocks)
            block.turn(not block.taken)
        else:
            _last(open_blocks)
            open_blocks.pop()
    if open_blocks:
        raise TemplateError("an #if without its #end")
    result.text = result.text.strip() if _DIRECTIVE.search(template) else result.text
    return result


class _Block:
    """One `#if`: whether its current branch is rendered, and whether any branch was."""

    def __init__(self, active: bool) -> None:
        self.active = self.taken = active

    def turn(self, active: bool) -> None:
        self.active = active
        self.taken = self.taken or active


def _last(blocks: list[_Block]) -> _Block:
    if not blocks:
        raise TemplateError("a branch without its #if")
    return blocks[-1]


def _parenthesised(template: str, start: int) -> tuple[str, int]:
    """The text inside the parentheses that open at `start`, and the position after them."""
    opening = template.find("(", start)
    depth, quote = 0, ""
    for position in range(max(opening, 0), len(template)):
        character = template[position]
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                return template[opening + 1 : position].strip(), position + 1
    raise TemplateError(f"unbalanced parentheses near '{template[start : start + 40]}'")


def _assign(expression: str, values: dict[str, str], result: Rendered, request: Request) -> None:
    target, separator, source = expression.partition("=")
    name = target.strip().removeprefix("$").strip("{}")
    if not separator or not name:
        raise TemplateError(f"cannot read #set({expression})")
    value = _value(source.strip(), values, request)
    if name.startswith(_OVERRIDE):
        result.headers[name.removeprefix(_OVERRIDE)] = value
    elif name.startswith("context."):
        raise TemplateError(f"cannot set ${name}")
    else:
        values[name] = value


def _truth(expression: str, values: Mapping[str, str], request: Request) -> bool:
    if "||" in expression:
        return any(_truth(part.strip(), values, request) for part in expression.split("||"))
    if "&&" in expression:
        return all(_truth(part.strip(), values, request) for part in expression.split("&&"))
    if found := _MATCHES.match(expression):
        return re.fullmatch(found[2], _value(found[1], values, request)) is not None
    for operator in ("==", "!="):
        left, found_operator, right = expression.partition(operator)
        if found_operator:
            equal = _value(left.strip(), values, request) == _value(right.strip(), values, request)
            return equal == (operator == "==")
    return bool(_value(expression, values, request))


def _value(expression: str, values: Mapping[str, str], request: Request) -> str:
    if len(expression) >= 2 and expression[0] == expression[-1] and expression[0] in "\"'":
        return expression[1:-1]
    if found := _HEADER.match(expression):
        return request.header(found[1])
    if found := _PARAMETER.match(expression):
        return request.query_value(found[1]) or request.header(found[1])
    if found := _REFERENCE.fullmatch(expression):
        return values.get(found[1], "")
    raise TemplateError(f"cannot read the template expression '{expression}'")


def _substitute(text: str, values: Mapping[str, str]) -> str:
    if "$input" in text or "$util" in text:
        raise TemplateError(f"$input and $util are not offered in text: '{text.strip()[:60]}'")
    return _REFERENCE.sub(lambda found: values.get(found[1], found[0]), text)
