"""Reads a synthesized template the way rules need it: resources by type, both branches of every condition.

Pure: takes and gives plain JSON values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Template = dict[str, Any]


def resources(template: Template, *types: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Logical id and properties of each resource of the types."""
    for logical_id, resource in template.get("Resources", {}).items():
        if resource["Type"] in types:
            yield logical_id, resource.get("Properties", {})


def branches(value: Any) -> list[Any]:
    """Every value that `value` may become: `Fn::If` opened on both sides, `AWS::NoValue` left out."""
    if isinstance(value, dict) and set(value) == {"Fn::If"}:
        _, yes, no = value["Fn::If"]
        return branches(yes) + branches(no)
    return [] if value is None or value == {"Ref": "AWS::NoValue"} else [value]


def items(value: Any) -> list[Any]:
    """The elements of a list whose list, or elements, may stand under `Fn::If`."""
    return [item for choice in branches(value) for entry in choice for item in branches(entry)]


def strings(value: Any) -> list[str]:
    """A string or list of strings as a list; intrinsic functions are left out."""
    entries = value if isinstance(value, list) else [value]
    return [entry for entry in entries if isinstance(entry, str)]
