"""Between plain Python values and DynamoDB's typed attributes, for the low-level client.

botocore alone is on the cold-start path, so boto3's serializer is not at hand.
"""

from __future__ import annotations

from typing import Any

Item = dict[str, dict[str, Any]]


def to_attribute(value: Any) -> dict[str, Any]:
    """One value as a typed attribute. Raises TypeError for what has no counterpart."""
    match value:
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int() | float():
            return {"N": repr(value)}
        case None:
            return {"NULL": True}
        case list():
            return {"L": [to_attribute(element) for element in value]}
        case dict():
            return {"M": {name: to_attribute(element) for name, element in value.items()}}
        case _:
            raise TypeError(f"no DynamoDB type for {type(value).__name__}")


def from_attribute(attribute: dict[str, Any]) -> Any:
    """The inverse of `to_attribute`; whole numbers become int, others float."""
    ((kind, value),) = attribute.items()
    match kind:
        case "N":
            return int(value) if value.lstrip("-").isdigit() else float(value)
        case "NULL":
            return None
        case "L":
            return [from_attribute(element) for element in value]
        case "M":
            return from_item(value)
        case _:
            return value


def to_item(values: dict[str, Any]) -> Item:
    """A whole item; fields that are None are left out."""
    return {name: to_attribute(value) for name, value in values.items() if value is not None}


def from_item(item: Item) -> dict[str, Any]:
    """The inverse of `to_item`."""
    return {name: from_attribute(attribute) for name, attribute in item.items()}
