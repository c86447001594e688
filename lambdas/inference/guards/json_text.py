"""Texts within JSON as their reader sees them: an escape hides no word, and no mask tears one apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Change = Callable[[str], str]


def change_texts(text: str, change: Change) -> str:
    """`text` with `change` applied to the strings and numbers in it, then to the whole.

    The whole shows what belongs together, such as a name and its number. What is no JSON is only a whole.
    """
    try:
        value = json.loads(text)
        changed = _changed(value, change)
    except (ValueError, RecursionError):
        return change(text)
    return change(text if changed == value else json.dumps(changed, ensure_ascii=False))


def _changed(value: Any, change: Change) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_changed(each, change) for each in value]
    if isinstance(value, dict):
        return {change(name): _changed(each, change) for name, each in value.items()}
    if isinstance(value, int | float) and not isinstance(value, bool):
        written = str(value)
        said = change(written)
        return value if said == written else said
    return value
