"""Tokens (JWT): whether one is good, and what it says. The signature is checked by PyJWT and cryptography.

They are imported with the first token: a function that only ever sees keys starts without them.
Sources: RFC 7519 "JSON Web Token"; RFC 8725 "JSON Web Token Best Current Practices".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contracts.jwt_issuers import TokenIssuer
from lambdas.authorizer.claims import AuthorizationError, Claims
from lambdas.authorizer.jwks import KeySet

LEEWAY_SECONDS = 30
"""How far an issuer's clock may be from ours."""
_MINIMUM_RSA_BITS = 2048
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class TokenVerifier:
    """Tokens of the issuers named in settings; of nobody else."""

    def __init__(
        self, issuers: Sequence[TokenIssuer], key_set: Callable[[TokenIssuer], KeySet] = KeySet
    ) -> None:
        self._issuers = {issuer.issuer: (issuer, key_set(issuer)) for issuer in issuers}

    def verify(self, token: str) -> Claims:
        """Raises AuthorizationError, or KeysUnavailableError where its issuer's keys cannot be had."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            unverified = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise AuthorizationError("malformed") from None
        issuer, keys = self._issuer(unverified.get("iss"))
        # The algorithm is ours to choose: the token may only name one that settings allow for its issuer.
        algorithm = header.get("alg")
        if algorithm not in issuer.algorithms:
            raise AuthorizationError("algorithm")
        key_id = header.get("kid")
        if key_id is not None and not isinstance(key_id, str):
            raise AuthorizationError("key_id")
        key = _public_key(keys.find(key_id, algorithm), algorithm)
        own_audience = issuer.audience_claim != "aud"
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=issuer.issuer,
                audience=None if own_audience else issuer.audiences,
                leeway=LEEWAY_SECONDS,
                options={
                    "require": ["exp", "iss", issuer.audience_claim],
                    "verify_aud": not own_audience,
                },
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise AuthorizationError(_reason(error)) from None
        if own_audience and claims[issuer.audience_claim] not in issuer.audiences:
            raise AuthorizationError("audience")
        return _claims(claims, issuer)

    def _issuer(self, name: object) -> tuple[TokenIssuer, KeySet]:
        found = self._issuers.get(name) if isinstance(name, str) else None
        if found is None:
            raise AuthorizationError("issuer")
        return found


def _public_key(jwk: dict[str, Any], algorithm: str) -> Any:
    import jwt

    try:
        key = jwt.PyJWK(jwk, algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        raise AuthorizationError("key") from None
    if algorithm == "RS256" and key.key_size < _MINIMUM_RSA_BITS:
        raise AuthorizationError("key")
    return key


def _claims(claims: Mapping[str, Any], issuer: TokenIssuer) -> Claims:
    tenant = claims.get(issuer.tenant_claim)
    if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
        raise AuthorizationError("tenant")
    listed = claims.get(issuer.scope_claim) or []
    words = listed.split() if isinstance(listed, str) else listed if isinstance(listed, list) else []
    prefix, subject = issuer.scope_prefix, claims.get("sub")
    return Claims(
        tenant,
        frozenset(
            word.removeprefix(prefix) for word in words if isinstance(word, str) and word.startswith(prefix)
        ),
        # A subject is unique within its issuer only.
        hashlib.sha256(f"{issuer.issuer}\0{subject}".encode()).hexdigest()[:16]
        if isinstance(subject, str)
        else "",
    )


def _reason(error: Exception) -> str:
    """PyJWT's class as a word for the log: `ExpiredSignatureError` → `expiredsignature`."""
    return type(error).__name__.removesuffix("Error").removeprefix("Invalid").lower()
