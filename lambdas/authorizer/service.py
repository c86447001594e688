"""Who holds this key? From the caller's secret to a tenant, without ever keeping the secret.

Keys are looked up by their hash, so the look-up's timing says nothing about any key. Every refusal looks the
same from outside; `Refused.reason` is for the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from contracts.access import AccessKey, key_pk
from lambdas.common.dynamo import Dynamo, from_item
from lambdas.common.requests import headers

_LONGEST_SECRET = 512


class Refused(Exception):
    """The caller is not let in; `reason` is one of missing, unknown, revoked, expired."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class KeySource(Protocol):
    """Where keys are kept."""

    def find(self, pk: str) -> AccessKey | None:
        """The key of that hash, None where there is none."""


class KeyTable:
    """The access table."""

    def __init__(self, table: str, tables: Dynamo) -> None:
        self._table = table
        self._tables = tables

    def find(self, pk: str) -> AccessKey | None:
        """Read consistently, so that a revocation counts from the moment it is written."""
        reply = self._tables.call(
            "GetItem", TableName=self._table, Key={"pk": {"S": pk}}, ConsistentRead=True
        )
        return AccessKey.model_validate(from_item(reply["Item"])) if "Item" in reply else None


class Authorizer:
    """Turns a request's key into API Gateway's answer."""

    def __init__(self, keys: KeySource, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock

    def admit(self, event: dict[str, Any]) -> dict[str, Any]:
        """Policy, context and the tenant's usage key. Raises Refused."""
        key = self._key(_secret(event))
        return {
            "principalId": key.tenant,
            "policyDocument": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Action": "execute-api:Invoke",
                        "Effect": "Allow",
                        "Resource": _whole_stage(event["methodArn"]),
                    }
                ],
            },
            "context": _context(key),
            "usageIdentifierKey": key.usage_identifier,
        }

    def _key(self, secret: str) -> AccessKey:
        key = self._keys.find(key_pk(secret))
        if key is None:
            raise Refused("unknown")
        if key.revoked:
            raise Refused("revoked")
        if key.expires_at is not None and key.expires_at <= self._clock():
            raise Refused("expired")
        return key


def _context(key: AccessKey) -> dict[str, str]:
    """What the functions behind learn of the caller; API Gateway passes on strings only."""
    limits = {"requests_per_day": key.requests_per_day, "tokens_per_day": key.tokens_per_day}
    return {
        "tenant": key.tenant,
        "key_name": key.name,
        "key_id": key.id,
        "scopes": " ".join(key.scopes),
        **({} if key.keep_text else {"keep_text": "false"}),
        **{name: str(limit) for name, limit in limits.items() if limit is not None},
    }


def _secret(event: dict[str, Any]) -> str:
    """The key as `Authorization: Bearer …`, or as `x-api-key`."""
    sent = headers(event)
    scheme, _, token = sent.get("authorization", "").partition(" ")
    secret = token.strip() if scheme.lower() == "bearer" else sent.get("x-api-key")
    if not secret or len(secret) > _LONGEST_SECRET or not secret.isprintable():
        raise Refused("missing")
    return secret


def _whole_stage(method_arn: str) -> str:
    """The answer is cached for the key, so it must hold for every route of the stage."""
    api, stage, *_ = method_arn.split("/")
    return f"{api}/{stage}/*"
