"""SigV4 signatures of IAM callers: what must be in a request before it is worth verifying.

Stricter than it need be, on purpose: one `Authorization` header in the one form that AWS's SDKs write.
Requests signed in the query string are refused: two places for one credential are a way around a check.
"""

from __future__ import annotations

import calendar
import hmac
import re
import time
from dataclasses import dataclass

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.cloud.rest_api.gateway_responses import GatewayError
from local.cloud.rest_api.http_messages import Request

SERVICE = "execute-api"
MAX_SKEW_SECONDS = 300
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[\w-]+)/(?P<date>\d{8})/(?P<region>[\w-]+)/(?P<service>[\w-]+)"
    r"/aws4_request, ?SignedHeaders=(?P<headers>[\w;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True)
class Signature:
    """The parts of an `Authorization` header; `signed_headers` are lower-case names."""

    access_key_id: str
    date: str
    region: str
    signed_headers: tuple[str, ...]
    signature: str


def signature_of(request: Request) -> Signature:
    """The request's signature, well formed and for this service; raises GatewayError."""
    if any(name.lower().startswith("x-amz-") for name in request.query_values):
        raise GatewayError(
            "DEFAULT_4XX",
            "Requests signed in the query string are not offered here",
            error_type="IncompleteSignatureException",
        )
    text = request.header("authorization")
    if not text.startswith("AWS4-"):
        raise GatewayError("MISSING_AUTHENTICATION_TOKEN")
    found = _AUTHORIZATION.fullmatch(text)
    if not found or not request.header("x-amz-date"):
        raise GatewayError(
            "DEFAULT_4XX",
            "Authorization header requires Credential, SignedHeaders and Signature, and an X-Amz-Date",
            error_type="IncompleteSignatureException",
        )
    signed = tuple(found["headers"].split(";"))
    if found["service"] != SERVICE:
        message = f"Credential should be scoped to correct service: '{SERVICE}'."
        raise GatewayError("INVALID_SIGNATURE", message)
    if "host" not in signed:
        raise GatewayError("INVALID_SIGNATURE", "'Host' must be a 'SignedHeader' in the AWS Authorization.")
    return Signature(found["key"], found["date"], found["region"], signed, found["signature"])


def check_secret(signature: Signature, request: Request, full_path: str, secret: str) -> None:
    """Verify a signature against a known secret; raises GatewayError when it is stale or does not match.

    `full_path` is the percent-encoded path as it was sent, stage and all.
    """
    stamp = request.header("x-amz-date")
    try:
        signed_at = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    except ValueError as error:
        raise GatewayError("INVALID_SIGNATURE", f"'{stamp}' is not a date") from error
    if abs(request.received_at - signed_at) > MAX_SKEW_SECONDS or not stamp.startswith(signature.date):
        raise GatewayError("INVALID_SIGNATURE", f"Signature expired or not yet current: {stamp}")
    if not hmac.compare_digest(_computed(signature, request, full_path, secret), signature.signature):
        message = "The request signature we calculated does not match the signature you provided."
        raise GatewayError("INVALID_SIGNATURE", message)


def _computed(signature: Signature, request: Request, full_path: str, secret: str) -> str:
    signer = SigV4Auth(Credentials(signature.access_key_id, secret), SERVICE, signature.region)
    query = f"?{request.query}" if request.query else ""
    copy = AWSRequest(
        request.method,
        f"http://{request.header('host')}{full_path}{query}",
        {name: request.header(name) for name in signature.signed_headers},
        request.body,
    )
    copy.context["timestamp"] = request.header("x-amz-date")
    return str(signer.signature(signer.string_to_sign(copy, signer.canonical_request(copy)), copy))
