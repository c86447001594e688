"""What invoking a function gives back; shared by the pool and by whoever calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class InvokeResult:
    """A finished invocation. `function_error` is None, `Unhandled` or `Handled`; the payload then holds
    `{"errorMessage", "errorType", …}`. `log_tail` is the last 4 KiB of its log."""

    payload: bytes
    function_error: str | None
    request_id: str
    log_tail: bytes = b""


class StreamError(Exception):
    """A streaming function failed; `str()` is Lambda's error body, `error_type` such as `Runtime.ExitError`."""

    def __init__(self, error_type: str, body: str) -> None:
        super().__init__(body)
        self.error_type = error_type


@dataclass(frozen=True)
class StreamResult:
    """An invocation whose answer has begun.

    `prelude` is the JSON before the eight NUL bytes (`statusCode`, `headers`, `cookies`, `multiValueHeaders`)
    for content type `application/vnd.awslambda.http-integration-response`, else None. `body` yields pieces as
    the function writes them and raises StreamError when the function fails midway. Close the iterator when
    the client leaves.
    """

    request_id: str
    content_type: str
    prelude: dict[str, Any] | None
    body: AsyncIterator[bytes]
