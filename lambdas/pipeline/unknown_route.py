"""Answers a path that leads to no operation; API Gateway keeps most of them away."""

from __future__ import annotations

from lambdas.pipeline.request import Exchange
from lambdas.runtime.errors import ApiError


class UnknownRoute:
    """Ends every request."""

    def apply(self, exchange: Exchange) -> None:
        """Raises ApiError 404."""
        raise ApiError("not_found_error", "There is no such route.", code="unknown_route")
