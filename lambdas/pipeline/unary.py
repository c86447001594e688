"""Asks the model about texts: one body in, one body out."""

from __future__ import annotations

from typing import Any

from contracts.texts import TextsAnswer, TextsRequest
from lambdas.aws import model_errors
from lambdas.pipeline.model_calls import Calls, ModelStream
from lambdas.pipeline.operations import Unary
from lambdas.pipeline.request import Admission, Response

_MAX_REPLY_BYTES = 64 * 1024 * 1024


class InvokeUnary:
    """Admission → the one body of the reply."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __call__(self, admission: Admission, response: Response) -> bytes:
        """Raises ApiError, also where the reply does not fit the request."""
        request = admission.request
        if not isinstance(request.operation, Unary) or not isinstance(request.body, TextsRequest):
            raise TypeError("only a request about texts is answered by one body")
        body = self._calls.open(admission, response, _whole)
        try:
            answer = request.operation.read(request.body, body)
        except ValueError:
            raise model_errors.garbage() from None
        response.prompt_tokens = answer.usage.prompt_tokens
        return unary_body(admission, response, answer)


def unary_body(admission: Admission, response: Response, answer: TextsAnswer) -> bytes:
    """The answer as the caller gets it: by the request's own id and the model's public name."""
    request = admission.request
    public: dict[str, Any] = {"model": request.body.model}
    fields = type(answer).model_fields
    if "id" in fields:
        public["id"] = request.answer_id
    if "created" in fields:
        public["created"] = int(request.incoming.received_at)
    response.headers["content-type"] = "application/json"
    return answer.model_copy(update=public).model_dump_json(exclude_none=True).encode()


def _whole(stream: ModelStream) -> bytes:
    body = bytearray()
    for piece in stream:
        body += piece
        if len(body) > _MAX_REPLY_BYTES:
            raise model_errors.garbage()
    return bytes(body)
