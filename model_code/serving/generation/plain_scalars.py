"""Texts and numbers of a plain schema: each ends; bounds that no engine counts to are left out. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

from contracts.json_schema import FORMATS, is_countable_pattern

MAX_TEXT = 16_384
"""Characters of a text whose schema has no bound, or one beyond this."""
MAX_ITEMS = 1_024
"""Bounds of a list are left out beyond this."""
LARGEST_NUMBER = 10**15 - 1
"""Bounds of a number are left out beyond this, where a double counts in ones; without one it ends here."""
FINEST_STEP = 1e-6
"""A number that need not be whole has six decimals at most."""

Schema = dict[str, Any]


def plain_text(schema: Schema) -> Schema:
    """A text: its pattern or its format where an engine can hold to it, and lengths."""
    plain: Schema = {"type": "string"}
    if is_countable_pattern(schema.get("pattern")):
        plain["pattern"] = schema["pattern"]
    elif isinstance(form := schema.get("format"), str) and form in FORMATS:
        return {**plain, "format": form}
    low, high = _size(schema, "minLength", MAX_TEXT), _size(schema, "maxLength", MAX_TEXT)
    if low and low <= (MAX_TEXT if high is None else high):
        plain["minLength"] = low
    if "pattern" not in plain or high is not None:
        plain["maxLength"] = MAX_TEXT if high is None else high
    return plain


def plain_number(schema: Schema, *, whole: bool = False) -> Schema:
    """A number from `minimum` to `maximum` in steps of `multipleOf`."""
    step = 1 if whole else FINEST_STEP
    low = _tightest(schema, "minimum", "exclusiveMinimum", step, max)
    high = _tightest(schema, "maximum", "exclusiveMaximum", -step, min)
    least = -LARGEST_NUMBER if low is None else math.ceil(low) if whole else low
    most = LARGEST_NUMBER if high is None else math.floor(high) if whole else high
    if least > most:
        least, most = -LARGEST_NUMBER, LARGEST_NUMBER
    plain: Schema = {"type": "integer" if whole else "number", "minimum": least, "maximum": most}
    multiple = schema.get("multipleOf")
    if _is_number(multiple) and FINEST_STEP <= multiple <= LARGEST_NUMBER and multiple % step == 0:
        plain["multipleOf"] = multiple
    elif not whole:
        plain["multipleOf"] = FINEST_STEP
    return plain


def item_count(schema: Schema, keyword: str) -> int | None:
    """`minItems` or `maxItems`; None where there is none, or none to count to."""
    return _size(schema, keyword, MAX_ITEMS)


def _tightest(
    schema: Schema, keyword: str, exclusive: str, step: float, choose: Callable[[Iterable[float]], float]
) -> float | None:
    """The bound that holds, an exclusive one moved by a step; None where no engine would count so far."""
    bound, beyond = schema.get(keyword), schema.get(exclusive)
    if beyond is True:  # draft 4: says how the other one is meant
        bound, beyond = None, bound
    found: list[float] = [bound] if _is_number(bound) else []
    if _is_number(beyond):
        found.append(beyond + step)
    near = [value for value in found if abs(value) <= LARGEST_NUMBER]
    return choose(near) if near else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _size(schema: Schema, keyword: str, most: int) -> int | None:
    value = schema.get(keyword)
    return int(value) if _is_number(value) and value == int(value) and 0 <= value <= most else None
