"""An issuer's public keys: fetched over TLS within bounds, remembered, asked for again when a new one shows.

A caller can make up key ids at will, so an unknown one leads to a fetch only now and then.
Source: RFC 7517, "JSON Web Key".
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from contracts.jwt_issuers import TokenIssuer
from lambdas.authorizer.claims import AuthorizationError, KeysUnavailableError

FRESH_SECONDS = 600.0
STALE_SECONDS = 86_400.0
"""How long known keys go on serving while their issuer cannot be reached."""
PAUSE_SECONDS = 30.0
"""Shortest time between two fetches."""
MAX_BYTES = 65_536
_TIMEOUT_SECONDS = 3.0
_KEY_TYPES = {"RS256": "RSA", "ES256": "EC"}

Jwk = dict[str, Any]


class KeySet:
    """The keys of one issuer. `fetch` gets a URL's body; it raises KeysUnavailableError."""

    def __init__(
        self,
        issuer: TokenIssuer,
        fetch: Callable[[str], bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = issuer.jwks_url
        self._fetch = fetch or fetch_keys
        self._clock = clock
        self._keys: list[Jwk] = _signing_keys(issuer.jwks) if issuer.jwks is not None else []
        self._fetched_at = self._tried_at = float("-inf")

    def find(self, key_id: str | None, algorithm: str) -> Jwk:
        """The key a token names; without a name, the only one. Raises as `TokenVerifier` does."""
        if self._url is None:
            return _pick(self._keys, key_id, algorithm)
        if self._age() > FRESH_SECONDS:
            self._refresh()
        try:
            return _pick(self._keys, key_id, algorithm)
        except AuthorizationError:
            if not self._refresh():
                raise
            return _pick(self._keys, key_id, algorithm)

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _refresh(self) -> bool:
        """Fetch, unless that was tried a moment ago; whether there are new keys to look at."""
        if self._clock() - self._tried_at < PAUSE_SECONDS:
            if self._age() > STALE_SECONDS:
                raise KeysUnavailableError("tried a moment ago")
            return False
        self._tried_at = self._clock()
        try:
            self._keys = _parsed(self._fetch(self._url or ""))
        except KeysUnavailableError:
            if self._age() > STALE_SECONDS:
                raise
            return False
        self._fetched_at = self._clock()
        return True


def fetch_keys(url: str) -> bytes:
    """The body at an https address: no redirects, MAX_BYTES, a few seconds. Raises KeysUnavailableError."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPSConnection(
        parts.netloc, timeout=_TIMEOUT_SECONDS, context=ssl.create_default_context()
    )
    ends = time.monotonic() + 2 * _TIMEOUT_SECONDS
    body = b""
    try:
        connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""))
        response = connection.getresponse()
        if response.status != 200:
            raise KeysUnavailableError(f"status {response.status}")
        while piece := response.read1(MAX_BYTES):
            body += piece
            if len(body) > MAX_BYTES or time.monotonic() > ends:
                raise KeysUnavailableError("too much, or too slow")
        return body
    except (OSError, http.client.HTTPException) as error:
        raise KeysUnavailableError(type(error).__name__) from error
    finally:
        connection.close()


def _parsed(body: bytes) -> list[Jwk]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise KeysUnavailableError("not JSON") from None
    keys = _signing_keys(document)
    if not keys:
        raise KeysUnavailableError("no keys for signatures")
    return keys


def _signing_keys(document: Any) -> list[Jwk]:
    keys = document.get("keys") if isinstance(document, dict) else None
    return [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []


def _pick(keys: list[Jwk], key_id: str | None, algorithm: str) -> Jwk:
    """A key may only be used as what it is: its type, curve, purpose and algorithm must fit."""
    fitting = [
        key
        for key in keys
        if key.get("kty") == _KEY_TYPES[algorithm]
        and (algorithm != "ES256" or key.get("crv") == "P-256")
        and key.get("use") in (None, "sig")
        and key.get("alg") in (None, algorithm)
        and (key_id is None or key.get("kid") == key_id)
    ]
    if len(fitting) != 1:
        raise AuthorizationError("key_id")
    return fitting[0]
