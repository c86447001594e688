"""How fleets follow their load: metric, target, cool-downs, schedules.

A target that is left out comes from the machine's benchmark (capacity.py) or from the engine's batch.
Knows nothing of machines or CDK.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from infra.settings.base import SettingsModel, setting
from infra.settings.exclusions import exclusion
from infra.settings.texts import check_schedule, check_timezone

_ORDER = exclusion(
    "schedule-counts",
    refuses="a schedule whose max is below its min",
    why="Application Auto Scaling refuses a MaxCapacity below the MinCapacity.",
    change="a max of at least min",
)


class ScalingSchedule(SettingsModel):
    """From a moment on, other bounds: fewer machines at night, more before a campaign."""

    name: str = setting("Name of the schedule.", "night", pattern=r"^[a-z][a-z0-9-]{0,40}$")
    at: str = setting(
        "When it starts: `cron(…)`, `rate(…)` or `at(…)`.",
        "cron(0 20 ? * MON-FRI *)",
        pattern=r"^(cron|rate|at)\(.+\)$",
        form="cron(…), rate(…) or at(…)",
    )
    timezone: str = setting(
        "Time zone of `at`.", "Europe/Berlin", pattern=r"^[A-Za-z0-9_+/-]+$", default="UTC"
    )
    min: int = setting("Least number from then on.", 1, ge=0, le=100)
    max: int = setting("Greatest number from then on.", 2, ge=0, le=100)

    @model_validator(mode="after")
    def _is_a_schedule(self) -> Self:
        check_schedule("at", self.at, once=True)
        check_timezone("timezone", self.timezone)
        return self

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max < self.min:
            raise _ORDER.refusal(
                "max", what=f"The schedule '{self.name}' asks for {self.min} to {self.max}.", example=self.min
            )
        return self


class _Cooldowns(SettingsModel):
    scale_in_seconds: int = setting(
        "Pause after a step down, so that a short lull costs no warm machine.",
        600,
        ge=0,
        le=3600,
        default=600,
    )
    scale_out_seconds: int = setting(
        "Pause after a step up, about as long as a machine needs to start.", 60, ge=0, le=3600, default=60
    )
    schedules: list[ScalingSchedule] = setting(
        "Other bounds at certain times.", [{"name": "night"}], default=[], max_length=20
    )


class ScalingSettings(_Cooldowns):
    """Follows the requests; without effect while min and max are equal and there is no schedule."""

    metric: Literal["concurrent_requests", "invocations"] = setting(
        "Requests in flight per machine (every 10 s, queued ones included), or invocations per minute.",
        "concurrent_requests",
        default="concurrent_requests",
    )
    target: float | None = setting(
        "Level to hold per machine or copy; left out, from bench/capacity, or 70 % of the engine's batch.",
        22.0,
        gt=0,
        default=None,
    )


class ProvisionedConcurrencyScaling(_Cooldowns):
    """Follows how much of a serverless endpoint's provisioned concurrency is in use."""

    max: int = setting(
        "Greatest provisioned concurrency; the least is `provisioned_concurrency`.", 5, ge=1, le=200
    )
    target: float = setting("Share of it in use to hold, 0 to 1.", 0.7, gt=0, le=0.95, default=0.7)


class BacklogScalingSettings(_Cooldowns):
    """Follows the queue of an asynchronous endpoint."""

    backlog_per_instance: float = setting("Waiting requests per machine to hold.", 5.0, gt=0, default=5.0)
