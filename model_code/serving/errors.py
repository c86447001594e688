"""Failures that a caller is told about, in OpenAI's error shape."""

from __future__ import annotations

from contracts.errors import STATUS_OF_TYPE, ErrorType, error_body


class ServingError(Exception):
    """A refusal or failure with its error object and HTTP status. `retry_after` is in seconds."""

    def __init__(
        self,
        type: ErrorType,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.type: ErrorType = type
        self.status = status or STATUS_OF_TYPE[type]
        self.code = code
        self.retry_after = retry_after
        self.body = error_body(type, message, param=param, code=code)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Extra response headers."""
        return [] if self.retry_after is None else [(b"retry-after", str(self.retry_after).encode())]


def invalid(
    message: str, *, param: str | None = None, code: str | None = None, status: int = 400
) -> ServingError:
    """The caller's request is at fault."""
    return ServingError("invalid_request_error", message, param=param, code=code, status=status)


def context_exceeded(message: str, field: str) -> ServingError:
    """What was asked for does not fit into the context: `message` in OpenAI's or vLLM's words.

    LiteLLM knows them by "maximum context length", LangChain by "prompt is too long": it looks for the code
    in the exception's text, where version 3 of OpenAI's package no longer puts it.
    """
    return invalid(f"{message} (The prompt is too long.)", param=field, code="context_length_exceeded")


def overloaded(message: str, *, code: str, retry_after: int = 1) -> ServingError:
    """The server cannot take the request now; the same request may succeed later."""
    text = f"{message} Retry after {retry_after} s."
    return ServingError("overloaded_error", text, code=code, retry_after=retry_after)


def internal() -> ServingError:
    """Something failed on our side; the log holds what, the caller gets none of it."""
    return ServingError("server_error", "The model failed to answer this request.", code="internal_error")
