"""The variables that every function has."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FunctionEnvironment(BaseModel):
    """Variables every function has; extend it for those of your own."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=str.upper, populate_by_name=True)

    environment: str
    log_level: str = "INFO"
    access_table: str
