"""Asks the model for embeddings: one body in, one body out."""

from __future__ import annotations

from pydantic import ValidationError

from contracts.embeddings import EmbeddingList, EmbeddingsRequest
from lambdas.aws import model_errors
from lambdas.pipeline.model_calls import Calls, ModelStream
from lambdas.pipeline.request import Admission, Response

_MAX_REPLY_BYTES = 64 * 1024 * 1024


class Embed:
    """Admission → the one body of the reply."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __call__(self, admission: Admission, response: Response) -> bytes:
        """Raises ApiError, also where the reply is no list of as many vectors as there are texts."""
        request = admission.body
        if not isinstance(request, EmbeddingsRequest):
            raise TypeError("only a request for embeddings is embedded")
        body = self._calls.open(admission, response, _whole)
        try:
            answer = EmbeddingList.model_validate_json(body)
        except ValidationError:
            raise model_errors.garbage() from None
        if len(answer.data) != len(request.texts):
            raise model_errors.garbage()
        answer.model = request.model
        response.prompt_tokens = answer.usage.prompt_tokens
        response.headers["content-type"] = "application/json"
        return answer.model_dump_json().encode()


def _whole(stream: ModelStream) -> bytes:
    body = bytearray()
    for piece in stream:
        body += piece
        if len(body) > _MAX_REPLY_BYTES:
            raise model_errors.garbage()
    return bytes(body)
