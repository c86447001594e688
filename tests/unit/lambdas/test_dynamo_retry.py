"""A table that stays silent is asked again, but only where doing it twice does no harm."""

from __future__ import annotations

from typing import Any

import pytest

from lambdas.aws import client as aws
from lambdas.aws.dynamodb import DynamoDB


@pytest.mark.parametrize(
    ("operation", "parameters", "attempts"),
    [("GetItem", {}, 3), ("UpdateItem", {}, 1), ("PutItem", {"ConditionExpression": "x"}, 1)],
)
def test_silence_is_answered_by_asking_again(
    monkeypatch: pytest.MonkeyPatch, operation: str, parameters: dict[str, Any], attempts: int
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    asked: list[str] = []

    def silent(self: DynamoDB, operation: str, body: bytes) -> dict[str, Any]:
        asked.append(operation)
        raise aws.ReadTimeoutError

    monkeypatch.setattr(DynamoDB, "_attempt", silent)
    with pytest.raises(aws.ReadTimeoutError):
        DynamoDB().call(operation, **parameters)
    assert asked == [operation] * attempts
