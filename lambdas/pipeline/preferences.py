"""What a caller's headers prefer: how long to wait, a job instead of 503, an answer of a certain age. Pure.

Sources: RFC 7240, "Prefer Header for HTTP" (`respond-async`, `wait`); RFC 9111, `Cache-Control: max-age`.
A preference that cannot be read is ignored, as the RFC demands. The deprecated headers, which one more
release accepts, are refused with 400 where they cannot be read.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from lambdas.pipeline.request import IncomingRequest
from lambdas.runtime.errors import ApiError

DEPRECATED_TIMEOUT = "x-request-timeout"
DEPRECATED_BUSY = "x-evergreen-when-busy"
DEPRECATED_CACHE = "x-evergreen-cache"
LONGEST_SECONDS = 900.0

_DIGITS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Preferences:
    """The header `Prefer`. `wait` is in seconds, above 0."""

    respond_async: bool = False
    wait: float | None = None

    @classmethod
    def of(cls, incoming: IncomingRequest) -> Preferences:
        """What is understood of it, or of the header that it replaces."""
        found = _directives(incoming.headers.get("prefer", ""))
        busy = incoming.headers.get(DEPRECATED_BUSY, "").strip().lower() == "job"
        return cls("respond-async" in found or busy, _seconds(found.get("wait")))

    @property
    def applied(self) -> str:
        """The value of `Preference-Applied` for a reply that is a job."""
        return "respond-async" if self.wait is None else f"respond-async, wait={self.wait:.0f}"


def deadline_ms(incoming: IncomingRequest) -> int | None:
    """When the caller stops waiting, in milliseconds since the epoch; None where it does not say.

    Raises ApiError 400 for a deprecated header that holds no number of seconds up to LONGEST_SECONDS.
    """
    seconds = Preferences.of(incoming).wait
    text = incoming.headers.get(DEPRECATED_TIMEOUT)
    if seconds is None and text is not None:
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= LONGEST_SECONDS:
            raise ApiError(
                "invalid_request_error",
                f"The header {DEPRECATED_TIMEOUT} must hold seconds, above 0"
                f" and up to {LONGEST_SECONDS:.0f}.",
                param=DEPRECATED_TIMEOUT,
                code="invalid_value",
            )
    return None if seconds is None else int(incoming.received_at * 1000 + seconds * 1000)


def cache_seconds(incoming: IncomingRequest, most: int) -> int | None:
    """The oldest answer that will do, in seconds, at most `most`; None where none is asked for.

    Raises ApiError 400 for a deprecated header that holds no number from 1 to `most`.
    """
    found = _directives(incoming.headers.get("cache-control", ""))
    age = found.get("max-age", "")
    if _DIGITS.fullmatch(age) and int(age) > 0 and "no-store" not in found and "no-cache" not in found:
        return min(int(age), most)
    asked = incoming.headers.get(DEPRECATED_CACHE)
    if asked is None:
        return None
    if not _DIGITS.fullmatch(asked) or not 1 <= int(asked) <= most:
        raise ApiError(
            "invalid_request_error",
            f"'{DEPRECATED_CACHE}' must be a number of seconds from 1 to {most}.",
            param=DEPRECATED_CACHE,
            code="invalid_value",
        )
    return int(asked)


def _directives(header: str) -> dict[str, str]:
    """`name` or `name=value`, separated by commas; parameters behind `;` are left out."""
    pieces = (piece.partition(";")[0].partition("=") for piece in header.split(","))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pieces if name.strip()}


def _seconds(text: str | None) -> float | None:
    if text is None or not _DIGITS.fullmatch(text) or int(text) == 0:
        return None
    return min(float(text), LONGEST_SECONDS)
