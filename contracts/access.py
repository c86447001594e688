"""Keys and tenants as the access table holds them.

The table has one string key, `pk`. Items: `KEY#<sha256 of the caller's key>` and
`ROUTING#<endpoint name>` (see `routing`). A caller's key is 256 random bits, so a plain SHA-256 cannot
be guessed back and comparing digests by look-up leaks nothing of use.
"""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict

KEY_PREFIX = "eg-"
SCOPE_INFERENCE = "inference"  # call models, see them, give feedback
SCOPE_CHOOSE_VARIANT = "choose-variant"  # name the variant that answers


class AccessKey(BaseModel):
    """What a caller's key stands for. `usage_identifier` is the value of the tenant's API Gateway key."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pk: str
    tenant: str
    name: str
    usage_identifier: str
    scopes: list[str]
    created_at: int
    expires_at: int | None = None
    revoked: bool = False
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    keep_text: bool = True  # whether masked transcripts are kept

    @property
    def id(self) -> str:
        """What names the key to people and in its usage: the beginning of its hash."""
        return self.pk.removeprefix("KEY#")[:12]


def key_pk(secret: str) -> str:
    """The access table's key of a caller's secret."""
    return "KEY#" + hashlib.sha256(secret.encode()).hexdigest()


def routing_pk(endpoint_name: str) -> str:
    """The access table's key of an endpoint's routing item."""
    return f"ROUTING#{endpoint_name}"
