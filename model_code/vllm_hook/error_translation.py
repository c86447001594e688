"""From the wrapped server's refusals and failures to ours: OpenAI's error types, one line, no internals."""

from __future__ import annotations

import json
import logging

from contracts.errors import STATUS_OF_TYPE, ErrorType
from model_code.serving.errors import ServingError, context_exceeded, internal, invalid, overloaded
from model_code.serving.logs import event

_TYPE_OF_STATUS: dict[int, ErrorType] = {status: kind for kind, status in STATUS_OF_TYPE.items()}
_LONGEST_MESSAGE = 500
_CONTEXT_WORDS = ("context length", "max_model_len", "maximum model length")
ERROR_EVENT = b'data: {"error"'
"""How an error begins when the wrapped server sends it as an event of a stream."""

logger = logging.getLogger(__name__)


def translate_error(status: int, body: bytes, prompt: str = "messages") -> ServingError:
    """The error to tell a caller instead of the wrapped server's reply with a status of 400 or above.

    `prompt` is the field that holds what the model reads.
    """
    message, param = _read(body)
    if status in (429, 503):
        event(logger, "vLLM refused a request", status=status)
        return overloaded("Too many requests are waiting.", code="queue_full")
    if status >= 500:
        # What went wrong inside is for the log; a caller can do nothing with it.
        event(logger, "vLLM failed to answer a request", level=logging.ERROR, status=status, detail=message)
        return internal()
    if status == 404:
        return ServingError("not_found_error", message, param="model", code="model_not_found")
    if any(word in message for word in _CONTEXT_WORDS):
        return context_exceeded(message, prompt)
    kind = _TYPE_OF_STATUS.get(status, "invalid_request_error")
    return ServingError(kind, message, param=param, code="invalid_value", status=status)


def unknown_route(method: str, path: str, status: int) -> ServingError:
    """The refusal of a path or method that is not served."""
    return invalid(f"{method} {path} is not served here.", code="unknown_route", status=status)


def event_error(chunk: bytes) -> ServingError:
    """The error in a stream's event."""
    body = chunk.removeprefix(b"data: ").partition(b"\n")[0]
    try:
        status = json.loads(body)["error"].get("code")
    except (ValueError, KeyError, AttributeError, TypeError):
        status = None
    return translate_error(status if isinstance(status, int) and status >= 400 else 500, body)


def _read(body: bytes) -> tuple[str, str | None]:
    """Message and parameter of an error body in any of the shapes that the wrapped server has."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    error = content.get("error", content) if isinstance(content, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    error = error if isinstance(error, dict) else {}
    message = error.get("message") or error.get("detail") or "The request was refused."
    line = " ".join(str(message).split())[:_LONGEST_MESSAGE]
    param = error.get("param")
    return line, param if isinstance(param, str) else None
