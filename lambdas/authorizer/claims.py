"""What a good token says of its bearer, and how a caller is turned away."""

from __future__ import annotations

from dataclasses import dataclass


class AuthorizationError(Exception):
    """The caller is not let in; `reason` is a word for the log, such as `unknown`, `expired`, `audience`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class KeysUnavailableError(Exception):
    """An issuer's keys cannot be fetched: no token is refused for that."""


@dataclass(frozen=True)
class Claims:
    """The tenant a token is for, and what it allows (at most what the tenant itself may).

    `subject` tells a tenant's bearers apart without naming them; empty where the token does not.
    """

    tenant: str
    scopes: frozenset[str]
    subject: str = ""
