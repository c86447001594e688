"""The HTTP door's settings: who may call it, how much, from where, over what.

Knows nothing of CDK, files or line numbers.
"""

from __future__ import annotations

from typing import Literal

from infra.settings.base import SettingsModel, setting


class Throttle(SettingsModel):
    """A token bucket: `rate_per_second` refills it, `burst` is its depth."""

    rate_per_second: float = setting("Sustained requests per second.", 50.0, gt=0, le=10_000)
    burst: int = setting("Requests above the rate at one moment.", 100, ge=1, le=5_000)


class Quota(SettingsModel):
    """Requests a caller may make in a period; the coarse fence, exact budgets are the function's."""

    limit: int = setting("Requests per period.", 1_000_000, ge=1)
    period: Literal["DAY", "WEEK", "MONTH"] = setting("When the count starts again.", "MONTH")


class Waf(SettingsModel):
    """The web ACL before the API."""

    enabled: bool = setting("Put a web ACL before the API.", True)
    requests_per_five_minutes: int = setting(
        "Requests from one IP address before it is blocked.", 3000, ge=10, le=2_000_000_000, default=3000
    )


class Gateway(SettingsModel):
    """The HTTP door."""

    stage: str = setting(
        "Stage name, the first part of the API's path.", "prod", pattern=r"^[A-Za-z0-9_-]{1,128}$"
    )
    cors_origins: list[str] = setting(
        "Origins browsers may call from; an empty list for none.", ["https://app.example.com"]
    )
    throttle: Throttle = setting("Limit of the whole stage and of each caller.", {"burst": 100})
    quota: Quota = setting("Requests per caller and period.", {"period": "MONTH"})
    authorizer_cache_seconds: int = setting(
        "How long an authorization is remembered: also how long a revoked key still works. "
        "With 0 nothing is remembered and `x-api-key` is read as well as `Authorization`.",
        60,
        ge=0,
        le=3600,
    )
    max_body_bytes: int = setting("Largest request body; above it 413.", 1_048_576, ge=1024, le=6_291_456)
    waf: Waf = setting("Web ACL.", {"enabled": True})
    manage_account_log_role: bool = setting(
        "Set the account's one API Gateway logging role; false where the account has it already.",
        True,
        default=True,
    )
