"""Who is asking? The authorizer in front has checked the key; here its findings become the caller.

Callers with AWS credentials have passed no authorizer: whom they call for stands in the access table.
"""

from __future__ import annotations

from contracts.access import SCOPE_INFERENCE, Principal
from lambdas.aws.access_table import AccessSource
from lambdas.pipeline.principals import admit_principal
from lambdas.pipeline.request import Exchange
from lambdas.runtime.errors import ApiError


class Authorise:
    """Fills `exchange.caller` and `.authorizer`. Without `access` nobody with AWS credentials is let in."""

    def __init__(self, access: AccessSource | None = None) -> None:
        self._access = access

    def apply(self, exchange: Exchange) -> None:
        """Raises ApiError 401 without a tenant, 403 without the scope or for an unknown principal."""
        authorizer = exchange.incoming.authorizer
        if exchange.incoming.principal and self._access is not None:
            authorizer = admit_principal(exchange.incoming.principal, self._access)
        if not authorizer.get("tenant"):
            raise ApiError("authentication_error", "A valid API key is needed.", code="invalid_api_key")
        scopes = frozenset(authorizer.get("scopes", "").split())
        if SCOPE_INFERENCE not in scopes:
            raise ApiError(
                "permission_error",
                f"This key lacks the scope '{SCOPE_INFERENCE}'.",
                code="insufficient_scope",
            )
        exchange.authorizer = authorizer
        exchange.caller = Principal.from_context(authorizer)
