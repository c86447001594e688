"""What each key has used, as the records table holds it and as `GET /v1/usage` shows it.

One row per key and day (UTC): `pk` = `USAGE#<tenant>`, `sk` = `DAY#<YYYY-MM-DD>#<key id>`. `charged` is what
the day's token budget has been charged with: tokens used plus those reserved for requests under way.
`full_at` is the state of the key's rate limit. A key with a monthly budget has one row more per month, `sk` =
`MONTH#<YYYY-MM>#<key id>`, with `charged_nano_usd`.
`cost_nano_usd` is in billionths of a dollar, so that sums stay exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict


class DayUsage(BaseModel):
    """A key's use on one day. `cost_usd` follows the prices set when the requests were made."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    day: str
    key_name: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


class UsageReport(BaseModel):
    """Reply of `GET /v1/usage`: the tenant's days from `start` to `end`, both included, and their sums."""

    model_config = ConfigDict(frozen=True)

    object: Literal["usage"] = "usage"
    start: str
    end: str
    data: list[DayUsage]
    requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: float


def usage_pk(tenant: str) -> str:
    """The records table's partition of a tenant's usage."""
    return f"USAGE#{tenant}"


def month_sk(day: str, key_id: str) -> str:
    """The row of a key in the month of a day (`YYYY-MM-DD`)."""
    return f"MONTH#{day[:7]}#{key_id}"


def usage_sk(day: str, key_id: str = "") -> str:
    """The row of a key on a day (`YYYY-MM-DD`); without a key, where the day's rows begin."""
    return f"DAY#{day}#{key_id}"


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens."""

    input: float
    output: float

    def cost(self, input_tokens: int, output_tokens: int) -> int:
        """In billionths of a dollar."""
        return round((input_tokens * self.input + output_tokens * self.output) * 1_000)
