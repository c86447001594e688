"""Sections `jobs` and `cache`: work that is answered later, and answers that are given again."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from infra.settings.base import RuleError, SettingsModel, setting


class JobsSettings(SettingsModel):
    """Jobs, batches and their files."""

    retention_days: int = setting("Days a job, a batch and its files are kept.", 7, ge=1, le=30, default=7)
    deadline_hours: int = setting(
        "Hours after which what is not answered yet expires.", 24, ge=1, le=168, default=24
    )
    open_per_key: int = setting(
        "Jobs and batches a key may have under way.", 100, ge=1, le=1_000, default=100
    )
    max_file_bytes: int = setting(
        "Largest file of requests; a function's event has room for no more than the upper bound.",
        4_000_000,
        ge=1_024,
        le=4_000_000,
        default=4_000_000,
    )
    max_requests_per_batch: int = setting(
        "Most requests in one file.", 10_000, ge=1, le=50_000, default=10_000
    )
    workers: int = setting(
        "Jobs and batches that are worked on at the same time; Lambda allows no fewer than 2.",
        2,
        ge=2,
        le=1_000,
        default=2,
    )
    requests_in_parallel: int = setting(
        "Requests of one batch that the model gets at the same time.", 4, ge=1, le=64, default=4
    )
    request_seconds: int = setting("Longest time one request may take.", 300, ge=5, le=420, default=300)
    worker_seconds: int = setting(
        "Longest run of a worker; a batch that needs more goes on in the next run.",
        900,
        ge=30,
        le=900,
        default=900,
    )

    @model_validator(mode="after")
    def _a_run_has_room_for_requests(self) -> Self:
        if self.worker_seconds < 2 * self.request_seconds:
            raise RuleError(
                "request_seconds",
                what=f"A worker that runs {self.worker_seconds} s has too little time for requests of "
                f"{self.request_seconds} s.",
                why="It begins a request only when there is time to end it.",
                change=f"at most {self.worker_seconds // 2}",
                example=self.worker_seconds // 2,
            )
        return self

    @model_validator(mode="after")
    def _is_kept_until_its_deadline(self) -> Self:
        if self.deadline_hours > 24 * self.retention_days:
            raise RuleError(
                "deadline_hours",
                what=f"A job would be forgotten after {self.retention_days} days and may be answered later.",
                why="Nobody could read that answer.",
                change=f"at most {24 * self.retention_days}, or more retention_days",
                example=24 * self.retention_days,
            )
        return self


class CacheSettings(SettingsModel):
    """Answers that are given again to a caller who asks for it."""

    max_seconds: int = setting(
        "Longest time an answer may be given again; with 0 none ever is.",
        3_600,
        ge=0,
        le=604_800,
        default=3_600,
    )
