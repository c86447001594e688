"""What the monitoring stack watches with: resolution, how long a fault must last, who hears of it.

Thresholds are not here: they follow from the goals. Knows nothing of CDK.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from infra.settings.base import RuleError, SettingsModel, setting
from infra.settings.texts import EmailAddress


class MonitoringSettings(SettingsModel):
    """Dashboard and alarms; what they ask for follows from the goals."""

    period_seconds: Literal[10, 30, 60, 300] = setting(
        "Resolution of widgets and alarms; below 60 on the laptop only.", 60, default=60
    )
    evaluation_periods: int = setting("Periods an alarm looks back.", 5, ge=1, le=100, default=5)
    datapoints_to_alarm: int = setting(
        "Periods among those that must be bad before it goes off.", 3, ge=1, le=100, default=3
    )
    minimum_requests: int = setting(
        "Requests in a period below which ratios and percentiles say nothing.",
        50,
        ge=1,
        le=1_000_000,
        default=20,
    )
    emails: list[EmailAddress] = setting(
        "Addresses that the alarms' topic writes to; each must confirm once.",
        ["on-call@example.com"],
        default=[],
    )

    @model_validator(mode="after")
    def _an_alarm_can_go_off(self) -> Self:
        if self.datapoints_to_alarm > self.evaluation_periods:
            raise RuleError(
                "datapoints_to_alarm",
                what=f"{self.datapoints_to_alarm} bad periods among {self.evaluation_periods} never happen.",
                why="An alarm counts bad periods among those that it looks back on.",
                change=f"a number up to {self.evaluation_periods}",
                example=self.evaluation_periods,
            )
        return self
