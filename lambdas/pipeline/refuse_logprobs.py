"""Refuses log probabilities where answers are guarded: they spell out what the guards take away."""

from __future__ import annotations

from contracts.chat import ChatRequest
from lambdas.pipeline.request import Exchange
from lambdas.runtime.errors import ApiError


class RefuseLogprobs:
    """Stands before the model is asked."""

    def apply(self, exchange: Exchange) -> None:
        """Raises ApiError 400."""
        if isinstance(exchange.request, ChatRequest) and exchange.request.logprobs:
            raise ApiError(
                "invalid_request_error",
                "Answers are guarded here, so 'logprobs' is not available; leave it out.",
                param="logprobs",
                code="unsupported_with_guards",
            )
