"""Why a query is refused."""

from __future__ import annotations


class ValidationError(ValueError):
    """A request that CloudWatch refuses with the code `ValidationError`."""


class MathError(ValidationError):
    """An expression that cannot be read or computed."""
