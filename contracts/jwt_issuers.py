"""Whose tokens (JWT) the API accepts, as settings write it and the authorizer reads it (`JWT_ISSUERS`)."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Algorithm = Literal["RS256", "ES256"]


class TokenIssuer(BaseModel):
    """One issuer. Its keys are fetched from `jwks_url`, or stand in `jwks`: one of the two.

    A token's scopes are those in `scope_claim` that begin with `scope_prefix`, without it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1, max_length=512)
    audiences: list[str] = Field(min_length=1, max_length=20)
    audience_claim: str = "aud"
    jwks_url: str | None = Field(default=None, pattern=r"^https://[^\s/@]+/\S*$")
    jwks: dict[str, Any] | None = None
    algorithms: list[Algorithm] = Field(default=["RS256", "ES256"], min_length=1)
    tenant_claim: str = "tenant"
    scope_claim: str = "scope"
    scope_prefix: str = ""

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        if (self.jwks_url is None) == (self.jwks is None):
            raise ValueError("give either jwks_url or jwks")
        return self
