"""From bytes to a checked request, in the words of the operation that was asked for."""

from __future__ import annotations

import codecs
import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from contracts.chat import ChatRequest
from contracts.request_errors import MISSING, first_fault, reads_text_only
from model_code.serving.errors import invalid

R = TypeVar("R", bound=BaseModel)


def parse(kind: type[R], body: bytes, *, model: str | None = None) -> R:
    """The request of a kind in a body; raises ServingError that names the field at fault.

    `model` is the one that a request means which names none: SageMaker's callers name the endpoint.
    """
    body = body.removeprefix(codecs.BOM_UTF8)  # RFC 8259 lets a reader skip it
    try:
        body.decode()
    except UnicodeDecodeError as error:
        message = f"The body is not valid UTF-8: byte {error.start} is at fault."
        raise invalid(message, code="invalid_utf8") from None
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        fault = first_fault(error)
        if model is not None and (fault.param, fault.code) == ("model", MISSING):
            return parse(kind, json.dumps({**json.loads(body), "model": model}).encode())
        raise invalid(fault.message, param=fault.param, code=fault.code) from None


def refuse_images(request: ChatRequest) -> None:
    """Raises ServingError for a chat with images, which no engine of ours reads; vLLM may."""
    for place in request.images:
        fault = reads_text_only(place)
        raise invalid(fault.message, param=place, code=fault.code)
