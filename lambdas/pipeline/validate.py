"""Is this a request we can answer? Size, encoding, JSON, fields, model: in the order of what each costs."""

from __future__ import annotations

from lambdas.pipeline.request import Exchange
from lambdas.runtime.errors import ApiError


class Validate:
    """Fills `exchange.request`."""

    def __init__(self, model_name: str, max_body_bytes: int) -> None:
        self._model_name = model_name
        self._max_body_bytes = max_body_bytes

    def apply(self, exchange: Exchange) -> None:
        """Raises ApiError 413, 400 or 404; pydantic's own errors are mapped with the others."""
        body = exchange.incoming.body
        if len(body) > self._max_body_bytes:
            raise ApiError(
                "invalid_request_error",
                f"The body has {len(body)} bytes; at most {self._max_body_bytes} are accepted.",
                code="request_too_large",
                status=413,
            )
        try:
            body.decode()
        except UnicodeDecodeError:
            raise ApiError(
                "invalid_request_error", "The body is not valid UTF-8.", code="invalid_encoding"
            ) from None
        request = exchange.operation.request.model_validate_json(body)
        if request.model != self._model_name:
            raise ApiError(
                "not_found_error",
                f"This model does not exist; GET /v1/models lists what does ('{self._model_name}').",
                param="model",
                code="model_not_found",
            )
        exchange.request = request
