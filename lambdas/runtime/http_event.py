"""What the functions take from an API Gateway proxy event, and nothing more of it."""

from __future__ import annotations

import base64
import binascii
from typing import Any

SIGNED = "/iam"
"""Below it lie the routes for callers with AWS credentials."""


def request_id(event: dict[str, Any]) -> str:
    """API Gateway's id of the request."""
    return str(event["requestContext"]["requestId"])


def body_bytes(event: dict[str, Any]) -> bytes:
    """The body as it came; bytes that are no text stay as they are, for whoever validates them to refuse."""
    text: str = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return text.encode(errors="surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b"\xff"  # never valid UTF-8


def headers(event: dict[str, Any]) -> dict[str, str]:
    """The request's headers with names in lower case; the last value where one was sent several times."""
    return {name.lower(): value for name, value in (event.get("headers") or {}).items()}


def verb(event: dict[str, Any]) -> str:
    """The method that answers: HEAD is answered as GET is, and its body left out (`is_head`)."""
    return "GET" if is_head(event) else str(event.get("httpMethod", ""))


def is_head(event: dict[str, Any]) -> bool:
    """Whether the caller wants to know what GET would say, without its body."""
    return event.get("httpMethod") == "HEAD"


def principal(event: dict[str, Any]) -> str:
    """The ARN of a caller whose signature API Gateway has checked; empty on routes with another check."""
    if event["requestContext"].get("authorizer"):
        return ""
    return str((event["requestContext"].get("identity") or {}).get("userArn") or "")


def base(event: dict[str, Any]) -> str:
    """What stands before the route in the caller's own addresses: `/iam`, or nothing."""
    return SIGNED if str(event.get("path", "")).startswith(f"{SIGNED}/") else ""


def route(event: dict[str, Any]) -> str:
    """The path below the stage; IAM callers reach the same routes below `/iam`. A final slash is none."""
    path = str(event.get("path", "")).removeprefix(SIGNED)
    return path.rstrip("/") or path
