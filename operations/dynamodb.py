"""DynamoDB items as plain values, and back. Whole numbers come back as `int`, others as `float`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

Item = dict[str, Any]


def to_attribute(value: Any) -> dict[str, Any]:
    """A plain value as DynamoDB writes it."""
    return dict(TypeSerializer().serialize(_decimals(value)))


def to_item(values: dict[str, Any]) -> Item:
    """An item of the attributes that are not None, as the functions write it."""
    return {name: to_attribute(value) for name, value in values.items() if value is not None}


def from_item(item: Item) -> dict[str, Any]:
    """The item's attributes as plain values."""
    return {name: _numbers(TypeDeserializer().deserialize(value)) for name, value in item.items()}


def _decimals(value: Any) -> Any:
    match value:
        case float():
            return Decimal(repr(value))
        case dict():
            return {name: _decimals(entry) for name, entry in value.items()}
        case list() | tuple():
            return [_decimals(entry) for entry in value]
        case _:
            return value


def _numbers(value: Any) -> Any:
    match value:
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case dict():
            return {name: _numbers(entry) for name, entry in value.items()}
        case list():
            return [_numbers(entry) for entry in value]
        case _:
            return value
