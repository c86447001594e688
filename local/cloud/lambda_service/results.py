"""What invoking a function gives back; shared by the pool and by whoever calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any


class TooManyRequestsError(Exception):
    """The function's concurrency is used up (Lambda answers 429). `reason` is Lambda's `Reason` field."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RequestTooLargeError(Exception):
    """The event is larger than Lambda's 6 MB (Lambda answers 413)."""


@dataclass(frozen=True)
class InvokeResult:
    """A finished invocation. `function_error` is None or `Unhandled`; the payload then holds
    `{"errorMessage", "errorType", …}`. `log_tail` is the last 4 KiB of its log."""

    payload: bytes
    function_error: str | None
    request_id: str
    log_tail: bytes = b""


class StreamError(Exception):
    """A streaming function failed; `str()` is Lambda's error object as JSON, `error_type` such as
    `Runtime.ExitError`."""

    def __init__(self, error_type: str, body: str) -> None:
        super().__init__(body)
        self.error_type = error_type


@dataclass(frozen=True)
class StreamResult:
    """An invocation whose answer has begun.

    `prelude` is the JSON before the eight NUL bytes (`statusCode`, `headers`, `cookies`, `multiValueHeaders`)
    for content type `application/vnd.awslambda.http-integration-response`, else None. `body` yields pieces as
    the function writes them and raises StreamError when the function fails midway. Close the iterator when
    the client leaves: the function then runs on without a reader, as on Lambda.
    """

    request_id: str
    content_type: str
    prelude: dict[str, Any] | None
    body: AsyncIterator[bytes]
