"""Small pieces of the Amazon States Language: a function's call, a choice, a wait, what is retried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

State = dict[str, Any]

_MARGIN_SECONDS = 30  # beyond the function's own limit, so that its own word comes first
TRANSIENT = {
    "ErrorEquals": [
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
        "Lambda.TooManyRequestsException",
    ],
    "IntervalSeconds": 2,
    "MaxAttempts": 5,
    "BackoffRate": 2,
    "JitterStrategy": "FULL",
}
COPYING = {"ErrorEquals": ["CopyPendingError"], "IntervalSeconds": 120, "MaxAttempts": 60, "BackoffRate": 1}
BUSY = {
    "ErrorEquals": ["StackBusyError", "EndpointBusyError"],
    "IntervalSeconds": 10,
    "MaxAttempts": 60,
    "BackoffRate": 1,
}


def invoke(arn: str, seconds: int, payload: Mapping[str, Any]) -> State:
    """A task that calls a function whose own limit is `seconds`."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": arn, "Payload": dict(payload)},
        "TimeoutSeconds": seconds + _MARGIN_SECONDS,
    }


def catch(then: str) -> dict[str, Any]:
    """Any error goes to `then`, beside the state's input."""
    return {"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": then}


def choice(*rules: dict[str, Any], otherwise: str) -> State:
    """The first rule that holds."""
    return {"Type": "Choice", "Choices": list(rules), "Default": otherwise}


def wait(seconds: int, *, then: str) -> State:
    """A pause."""
    return {"Type": "Wait", "Seconds": seconds, "Next": then}
