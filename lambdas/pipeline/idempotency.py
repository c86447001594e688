"""One request sent several times under one idempotency key makes one piece of work.

Source: the IETF draft "The Idempotency-Key HTTP Header Field".
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from contracts.tasks import Task
from lambdas.runtime.errors import ApiError

_LONGEST_KEY = 255


def idempotent_name(pk: str, key: str) -> str:
    """What stands for an owner's idempotency key: hexadecimal. Raises ApiError 400."""
    if not 1 <= len(key) <= _LONGEST_KEY or not key.isprintable():
        raise ApiError(
            "invalid_request_error",
            f"'idempotency-key' must be 1 to {_LONGEST_KEY} printable characters.",
            param="idempotency-key",
            code="invalid_value",
        )
    return hashlib.sha256(f"{pk}\0{key}".encode()).hexdigest()[:28]


def fingerprint(request: Any) -> str:
    """Equal for JSON values that are equal: neither the order of keys nor how a number is written counts."""
    values = json.loads(json.dumps(request), parse_float=_number)
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def the_same(earlier: Task, fingerprint: str | None) -> Task:
    """The work that was made for the key. Raises ApiError 409 where that was for another request."""
    if earlier.fingerprint != fingerprint:
        raise ApiError(
            "invalid_request_error",
            "This idempotency key was used for another request.",
            param="idempotency-key",
            code="idempotency_key_reused",
            status=409,
        )
    return earlier


def _number(text: str) -> float | int:
    number = float(text)
    return int(number) if number.is_integer() else number
