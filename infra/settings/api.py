"""The section `gateway`, the HTTP API: callers, limits, origins, domain.

Knows nothing of CDK, files or line numbers.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import model_validator

from infra.settings.base import RuleError, SettingsModel, setting
from infra.settings.exclusions import exclusion
from infra.settings.texts import AccountId, Origin

_FIVE_MINUTES = 300
_WEB_ACL_FACTOR = 2  # times what the throttle lets through: it is for those whom its 429 does not slow down
_LEAST_WEB_ACL_LIMIT = 10
_MOST_ISSUER_BYTES = 3_000
"""Of the 4 kB that all of a function's variables may take together."""

_WEB_ACL = exclusion(
    "web-acl-below-throttle",
    refuses="a web ACL's limit below what the throttle lets through, or an address's below a key's",
    why="Callers within their rate would be refused, and one address may be many callers behind a gateway.",
    change="300 times gateway.throttle.rate_per_second or more, or leave the key out",
)


class Throttle(SettingsModel):
    """A token bucket: `rate_per_second` refills it, `burst` is its depth."""

    rate_per_second: float = setting("Sustained requests per second.", 50.0, gt=0, le=10_000)
    burst: int = setting("Requests above the rate at one moment.", 100, ge=1, le=5_000)


class Quota(SettingsModel):
    """Requests a caller may make in a period; a coarse limit, exact budgets are enforced by the function."""

    limit: int = setting("Requests per period.", 1_000_000, ge=1, le=2_147_483_647)
    period: Literal["DAY", "WEEK", "MONTH"] = setting("When the count starts again.", "MONTH")


class Waf(SettingsModel):
    """The web ACL before the API."""

    enabled: bool = setting("Put a web ACL before the API.", True)
    requests_per_five_minutes: int | None = setting(
        "Requests with one key in five minutes, above which it gets 429; left out, twice what the throttle's "
        "rate lets through.",
        60_000,
        ge=10,
        le=2_000_000_000,
        default=None,
    )
    requests_per_address: int | None = setting(
        "Requests from one IP address in five minutes, whatever keys they carry, above which it gets 429; "
        "left out, twice a key's number.",
        120_000,
        ge=10,
        le=2_000_000_000,
        default=None,
    )


class JwtIssuer(SettingsModel):
    """An accepted issuer of JWTs. A token is valid for a tenant that `admin admit-tenant` registered."""

    issuer: str = setting("The token's `iss`, to the letter.", "https://login.example.com/", min_length=1)
    audiences: list[str] = setting("Accepted values of `aud`.", ["evergreen"], min_length=1, max_length=20)
    audience_claim: str = setting(
        "Claim that holds the audience; Cognito's access tokens have `client_id` instead.",
        "aud",
        default="aud",
    )
    jwks_url: str | None = setting(
        "Where the issuer publishes its keys; fetched over TLS, remembered for ten minutes.",
        "https://login.example.com/.well-known/jwks.json",
        pattern=r"^https://[^\s/@]+/\S*$",
        default=None,
    )
    jwks: dict[str, Any] | None = setting(
        "The keys themselves instead of an address, as a JWK set.",
        {"keys": [{"kty": "RSA", "kid": "1", "n": "…", "e": "AQAB"}]},
        default=None,
    )
    algorithms: list[Literal["RS256", "ES256"]] = setting(
        "Accepted signatures.", ["RS256"], min_length=1, default=["RS256", "ES256"]
    )
    tenant_claim: str = setting("Claim that names the tenant.", "tenant", default="tenant")
    scope_claim: str = setting(
        "Claim with the scopes, as text with spaces or a list.", "scope", default="scope"
    )
    scope_prefix: str = setting(
        "What precedes our scopes in that claim; scopes without it are not ours.", "evergreen/", default=""
    )

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        if (self.jwks_url is None) == (self.jwks is None):
            raise RuleError(
                "jwks_url",
                what="An issuer needs keys, and from one place.",
                why="Without them no signature can be checked; of two places one would be forgotten.",
                change="either jwks_url or jwks",
                example="https://login.example.com/.well-known/jwks.json",
            )
        return self


class Iam(SettingsModel):
    """Callers with AWS credentials, who use the same routes below `/iam` with signed requests."""

    enabled: bool = setting("Offer the routes below `/iam`.", True, default=False)
    accounts: list[AccountId] = setting(
        "Other AWS accounts whose users and roles may call; this account's may by their own policies.",
        ["444455556666"],
        default=[],
        max_length=50,
    )


class Domain(SettingsModel):
    """A name of your own for the API, and the TLS it speaks there; the generated name is then closed."""

    name: str = setting("Host name.", "api.example.com", pattern=r"^([a-z0-9-]{1,63}\.)+[a-z]{2,63}$")
    certificate_arn: str = setting(
        "The name's certificate in AWS Certificate Manager, in the environment's region.",
        "arn:aws:acm:us-east-1:111122223333:certificate/0f1e2d3c-0000-0000-0000-000000000000",
        pattern=r"^arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/[0-9a-f-]{36}$",
    )
    minimum_tls: Literal["1.2", "1.3"] = setting("Oldest TLS version accepted.", "1.2", default="1.2")


class ApiSettings(SettingsModel):
    """The HTTP API."""

    stage: str = setting(
        "Stage name, the first part of the API's path.", "prod", pattern=r"^[A-Za-z0-9_-]{1,128}$"
    )
    cors_origins: list[Origin] = setting(
        "Origins browsers may call from; an empty list for none.", ["https://app.example.com"]
    )
    throttle: Throttle = setting("Limit of the whole stage and of each caller.", {"burst": 100})
    quota: Quota = setting("Requests per caller and period.", {"period": "MONTH"})
    authorizer_cache_seconds: int = setting(
        "How long an authorization is remembered: also how long a revoked key still works. "
        "With 0 nothing is remembered.",
        60,
        ge=0,
        le=3600,
    )
    max_body_bytes: int = setting(
        "Largest request body; above it 413. Lambda's event has 6 MB for the body as JSON text, the headers "
        "and the authorizer's answer together.",
        1_048_576,
        ge=1024,
        le=5_000_000,
    )
    waf: Waf = setting("Web ACL.", {"enabled": True})
    jwt: list[JwtIssuer] = setting(
        "Issuers whose JWTs are accepted beside our own keys.",
        [{"issuer": "https://login.example.com/", "audiences": ["evergreen"], "jwks_url": "https://…"}],
        default=[],
        max_length=10,
    )
    iam: Iam = setting("Callers with AWS credentials.", {"enabled": True}, default=Iam())
    domain: Domain | None = setting(
        "A name of your own; left out, the API has the one API Gateway makes.",
        {"name": "api.example.com"},
        default=None,
    )
    manage_account_log_role: bool = setting(
        "Let this environment's stack set the account's one API Gateway logging role; left out, `bootstrap` "
        "does, where there is none. Two environments that both set it take it from each other.",
        True,
        default=False,
    )

    @property
    def allowed_in_five_minutes(self) -> int:
        """Requests that the throttle lets one caller make in five minutes."""
        return math.ceil(_FIVE_MINUTES * self.throttle.rate_per_second)

    @property
    def requests_per_key(self) -> int:
        """Requests with one key in five minutes, above which the web ACL answers 429."""
        derived = max(_LEAST_WEB_ACL_LIMIT, _WEB_ACL_FACTOR * self.allowed_in_five_minutes)
        return self.waf.requests_per_five_minutes or derived

    @property
    def requests_per_address(self) -> int:
        """Requests from one IP address in five minutes, above which the web ACL answers 429."""
        return self.waf.requests_per_address or _WEB_ACL_FACTOR * self.requests_per_key

    @model_validator(mode="after")
    def _web_acl_is_above_the_throttle(self) -> Self:
        allowed, per_key = self.allowed_in_five_minutes, self.requests_per_key
        if per_key < allowed:
            raise _WEB_ACL.refusal(
                "waf",
                "requests_per_five_minutes",
                what=f"{per_key} requests in five minutes are fewer than the throttle's {allowed}.",
                change=f"a number from {allowed} upwards, or leave the key out",
                example=_WEB_ACL_FACTOR * allowed,
            )
        if self.requests_per_address < per_key:
            raise _WEB_ACL.refusal(
                "waf",
                "requests_per_address",
                what=f"{self.requests_per_address} requests of an address are fewer than a key's {per_key}.",
                change=f"a number from {per_key} upwards, or leave the key out",
                example=_WEB_ACL_FACTOR * per_key,
            )
        return self

    @model_validator(mode="after")
    def _issuers_differ(self) -> Self:
        size = sum(len(issuer.model_dump_json(exclude_none=True).encode()) for issuer in self.jwt)
        if size > _MOST_ISSUER_BYTES:
            raise RuleError(
                "jwt",
                what=f"The issuers take {size} bytes of the authorizer's variables.",
                why=f"Lambda has room for about {_MOST_ISSUER_BYTES}.",
                change="jwks_url instead of jwks, or fewer issuers",
                example=[{"issuer": "https://login.example.com/", "audiences": ["evergreen"]}],
            )
        names = [issuer.issuer for issuer in self.jwt]
        for name in names:
            if names.count(name) > 1:
                raise RuleError(
                    "jwt",
                    what=f"The issuer '{name}' stands here twice.",
                    why="A token names its issuer, so which keys check it would be chance.",
                    change="one entry for each issuer, with all its audiences and keys",
                    example=[{"issuer": name}],
                )
        return self
