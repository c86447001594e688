"""DynamoDB for the functions: plain Python values to and from items, and calls with a bounded retry.

Source: Amazon DynamoDB developer guide, "DynamoDB low-level API".
"""

from __future__ import annotations

from typing import Any, Protocol

from pydantic_core import to_json

from lambdas.aws import client as aws
from lambdas.aws.client import with_retries

Item = dict[str, dict[str, Any]]

_REPEATABLE = {"BatchGetItem", "GetItem", "PutItem", "Query"}
_RETRYABLE = {
    "InternalServerError",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionInProgressException",
}


class DynamoError(Exception):
    """A call that DynamoDB refused; `code` is its name for the reason."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class ConditionFailedError(DynamoError):
    """The condition of a write does not hold; `item` is the row as it is, where the call asked for it."""

    def __init__(self, code: str, item: dict[str, Any]) -> None:
        super().__init__(code)
        self.item = item


class Dynamo(Protocol):
    """The tables, by DynamoDB's own operation names and parameters."""

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """The reply of `operation`. Raises DynamoError, or what `aws.Client` raises."""


class DynamoDB:
    """The service itself."""

    def __init__(self, *, read_timeout: float = 2) -> None:
        """`read_timeout`: seconds between bytes."""
        self._client = aws.Client("dynamodb", "dynamodb", "dynamodb", 1, read_timeout)

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """See Dynamo.call. What DynamoDB calls transient is tried again, a few times with growing pauses.

        A call that got no reply is tried again only where doing it twice does no harm.
        """
        body = to_json(parameters)
        repeatable = operation in _REPEATABLE and "ConditionExpression" not in parameters

        def is_transient(error: Exception) -> bool:
            if isinstance(error, aws.ConnectionFailedError | aws.ReadTimeoutError):
                return repeatable
            return isinstance(error, DynamoError) and error.code in _RETRYABLE

        return with_retries(lambda: self._attempt(operation, body), is_transient)

    def _attempt(self, operation: str, body: bytes) -> dict[str, Any]:
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "x-amz-target": f"DynamoDB_20120810.{operation}",
        }
        reply = self._client.send("POST", "/", headers, body)
        answer = reply.json()
        if reply.status == 200:
            return answer
        code = str(answer.get("__type", reply.status)).rpartition("#")[2]
        if code in {"ConditionalCheckFailedException", "TransactionCanceledException"}:
            raise ConditionFailedError(code, from_item(answer.get("Item") or {}))
        raise DynamoError(code)


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
