"""Who is asking? The authorizer in front has checked the key; here its findings become the caller."""

from __future__ import annotations

from contracts.access import SCOPE_INFERENCE
from lambdas.common.errors import ApiError
from lambdas.inference.exchange import Caller, Exchange


class Authorise:
    """Fills `exchange.caller`."""

    def apply(self, exchange: Exchange) -> None:
        """Raises ApiError 401 without a tenant, 403 without the scope."""
        authorizer = exchange.arrival.authorizer
        if not authorizer.get("tenant"):
            raise ApiError("authentication_error", "A valid API key is needed.", code="invalid_api_key")
        scopes = frozenset(authorizer.get("scopes", "").split())
        if SCOPE_INFERENCE not in scopes:
            raise ApiError(
                "permission_error",
                f"This key lacks the scope '{SCOPE_INFERENCE}'.",
                code="insufficient_scope",
            )
        exchange.caller = Caller(
            authorizer["tenant"],
            authorizer.get("key_name", ""),
            scopes,
            authorizer.get("key_id", ""),
            _limit(authorizer.get("requests_per_day")),
            _limit(authorizer.get("tokens_per_day")),
            keep_text=authorizer.get("keep_text") != "false",
        )


def _limit(text: str | None) -> int | None:
    """The authorizer's context knows strings only; a limit that is not set is not there."""
    return int(text) if text else None
