"""An interval of confidence, as every report and decision states it."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Interval(BaseModel):
    """Limits in the unit of the quantity they bound; `level` is the coverage, such as 0.95."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float
    level: float = Field(gt=0, lt=1)
    method: str

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not self.low <= self.high:
            raise ValueError(f"an interval's low end {self.low} must not be above its high end {self.high}")
        return self
