"""Signature Version 4: how a request to AWS proves who sends it. Pure: no clock, no environment, no network.

Source: AWS IAM user guide, "Create a signed AWS API request". A test holds it against the SDK's own signer.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Credentials:
    """Temporary (with a token) or long-lived credentials."""

    access_key: str
    secret_key: str
    token: str | None = None


@dataclass(frozen=True)
class CredentialScope:
    """What a signature is good for. `service` is the signing name (`sagemaker`, not `sagemaker-runtime`)."""

    region: str
    service: str


def sign(
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: Credentials,
    scope: CredentialScope,
    now: float,
) -> dict[str, str]:
    """`headers` plus date, token and authorization. Names must be lower case and hold `host`.

    `path` is as sent, already percent-encoded, without a query. `now`: seconds since the epoch.
    """
    timestamp = _timestamp(int(now))
    signed = {**headers, "x-amz-date": timestamp}
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    ordered = sorted(signed)
    names = ";".join(ordered)
    values = "".join([f"{name}:{' '.join(signed[name].split())}\n" for name in ordered])
    canonical = (
        f"{method}\n{_encoded(path, scope.service)}\n\n{values}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    )
    day = timestamp[:8]
    credential_scope = f"{day}/{scope.region}/{scope.service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"{_ALGORITHM}\n{timestamp}\n{credential_scope}\n{digest}"
    key = _signing_key(credentials.secret_key, day, scope.region, scope.service)
    signed["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key}/{credential_scope}, "
        f"SignedHeaders={names}, Signature={hmac.digest(key, to_sign.encode(), 'sha256').hex()}"
    )
    return signed


@functools.lru_cache(maxsize=1)
def _timestamp(second: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


@functools.lru_cache(maxsize=16)
def _encoded(path: str, service: str) -> str:
    """S3 alone takes the path as it is; everywhere else it is encoded once more."""
    return path if service == "s3" else urllib.parse.quote(path, safe="/-_.~")


@functools.lru_cache(maxsize=16)
def _signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    """Good for a day, so it is worth keeping."""
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
