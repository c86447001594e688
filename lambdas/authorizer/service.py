"""Who is this? From the caller's key or token to a tenant, without ever keeping the secret.

Keys are looked up by their hash, so the look-up's timing says nothing about any key. Every refusal looks the
same from outside; `AuthorizationError.reason` is for the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from contracts.access import AccessKey, context_of, key_pk, tenant_pk
from lambdas.authorizer.claims import AuthorizationError, Claims
from lambdas.aws.access_table import AccessSource
from lambdas.runtime.http_event import headers

_LONGEST_KEY = 512
_LONGEST_TOKEN = 8_192


class Tokens(Protocol):
    """Whoever can tell a good token from a bad one."""

    def verify(self, token: str) -> Claims:
        """What a token says. Raises AuthorizationError; KeysUnavailableError without its issuer's keys."""


class Authorizer:
    """Turns a request's key or token into API Gateway's answer. Without `tokens` only keys are taken."""

    def __init__(
        self, access: AccessSource, tokens: Tokens | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._access = access
        self._tokens = tokens
        self._clock = clock

    def admit(self, event: dict[str, Any]) -> dict[str, Any]:
        """Policy, context and the tenant's usage key. Raises AuthorizationError."""
        secret = _secret(event)
        if self._tokens is not None and secret.count(".") == 2:  # no key of ours has a dot
            claims = self._tokens.verify(secret)
            key = self._valid(tenant_pk(claims.tenant))
            context = context_of(key, claims.scopes)
            if claims.subject:
                context["subject"] = claims.subject
        else:
            if len(secret) > _LONGEST_KEY:
                raise AuthorizationError("missing")
            key = self._valid(key_pk(secret))
            context = context_of(key)
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
            "context": context,
            "usageIdentifierKey": key.usage_identifier,
        }

    def _valid(self, pk: str) -> AccessKey:
        key = self._access.find(pk)
        if key is None:
            raise AuthorizationError("unknown")
        if reason := key.refusal(self._clock()):
            raise AuthorizationError(reason)
        return key


def _secret(event: dict[str, Any]) -> str:
    """The key or token of `Authorization: Bearer …`, or of `x-api-key` for the authorizer of that header.

    API Gateway caches the answer under the one header alone: what else a request holds must not decide. The
    authorizer of `x-api-key` is one of type TOKEN, which is shown the header's value and no request.
    """
    if event.get("type") == "TOKEN":
        secret = str(event["authorizationToken"]).strip()
    else:
        scheme, _, token = headers(event).get("authorization", "").partition(" ")
        secret = token.strip() if scheme.lower() == "bearer" else ""
    if not secret or len(secret) > _LONGEST_TOKEN or not secret.isprintable():
        raise AuthorizationError("missing")
    return secret


def _whole_stage(method_arn: str) -> str:
    """The answer is cached for the key, so it must hold for every route of the stage."""
    api, stage, *_ = method_arn.split("/")
    return f"{api}/{stage}/*"
