"""What a browser needs to let a page read a reply. The preflight is API Gateway's; replies are ours."""

from __future__ import annotations

from collections.abc import Collection

_READABLE = ", ".join(
    [
        "x-request-id",
        "x-evergreen-variant",
        "retry-after",
        "location",
        "preference-applied",
        "x-cache",
        "x-evergreen-cache",
        "age",
        *(
            f"x-ratelimit-{part}-{of}"
            for of in ("requests", "tokens", "usd")
            for part in ("limit", "remaining", "reset")
        ),
    ]
)


def cors_headers(origin: str | None, allowed: Collection[str]) -> dict[str, str]:
    """The headers for a reply to a page of `origin`; none for programs and for pages nobody allowed."""
    if not origin or not (origin in allowed or "*" in allowed):
        return {}
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": _READABLE,
        "vary": "Origin",
    }
