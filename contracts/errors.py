"""The one error shape that leaves Evergreen: OpenAI's error object.

`type` and `code` are for programs, `message` tells a person what to change, `param` names the field.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "overloaded_error",
    "timeout_error",
    "server_error",
]

STATUS_OF_TYPE: dict[ErrorType, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "overloaded_error": 503,
    "timeout_error": 504,
    "server_error": 500,
}

OTHER_STATUSES: dict[ErrorType, frozenset[int]] = {
    "invalid_request_error": frozenset({404, 409, 413}),
    "server_error": frozenset({502, 503}),
}
"""Statuses that a type may have instead. Replies of the API have these and the types' own, and no others."""


def statuses_of(type: ErrorType) -> frozenset[int]:
    """Every status that an error of this type may have."""
    return OTHER_STATUSES.get(type, frozenset()) | {STATUS_OF_TYPE[type]}


class ErrorObject(BaseModel):
    """The inside of an error reply."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(BaseModel):
    """Body of every reply with a status of 400 or above, and of an in-band error event on a stream."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    error: ErrorObject


def error_body(type: ErrorType, message: str, *, param: str | None = None, code: str | None = None) -> str:
    """The JSON text of an `ErrorReply`."""
    return ErrorReply(error=ErrorObject(message=message, type=type, param=param, code=code)).model_dump_json()
