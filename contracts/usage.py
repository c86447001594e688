"""What each key has used, as the records table holds it and as `GET /v1/usage` shows it.

One row per key and day (UTC): `pk` = `USAGE#<tenant>`, `sk` = `DAY#<YYYY-MM-DD>#<key id>`. `charged` is what
the day's token budget has been charged with: tokens used plus those reserved for requests under way.
`full_at` is the state of the key's rate limit. A key with a monthly budget has one row more per month, `sk` =
`MONTH#<YYYY-MM>#<key id>`, with `charged_nano_usd`; one with a budget for a model has one row more per day,
`sk` = `MODELDAY#<YYYY-MM-DD>#<key id>#<model>`, with the model's `requests` and `charged`.
`cost_nano_usd` is in billionths of a dollar, so that sums stay exact; tokens that had no price when they were
used are in none of it, and counted in `unpriced_tokens`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict


class DayUsage(BaseModel):
    """A key's use on one day. `cost_usd` follows the prices set when the requests were made.

    It is null where `unpriced_tokens` of the day's tokens had none: their cost is not known, which is not 0.
    """

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    day: str
    key_name: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unpriced_tokens: int = 0
    cost_usd: float | None = None


class UsageReport(BaseModel):
    """Reply of `GET /v1/usage`: the tenant's days from `start` to `end`, both included, and their sums.

    `cost_usd` is null where a day's is.
    """

    model_config = ConfigDict(defer_build=True, frozen=True)

    object: Literal["usage"] = "usage"
    start: str
    end: str
    data: list[DayUsage]
    requests: int
    input_tokens: int
    output_tokens: int
    unpriced_tokens: int = 0
    cost_usd: float | None


def usage_pk(tenant: str) -> str:
    """The records table's partition of a tenant's usage."""
    return f"USAGE#{tenant}"


def month_sk(day: str, key_id: str) -> str:
    """The row of a key in the month of a day (`YYYY-MM-DD`)."""
    return f"MONTH#{day[:7]}#{key_id}"


def model_sk(day: str, key_id: str, model: str) -> str:
    """The row of a key's use of one model on a day; sorted apart from the days' own rows."""
    return f"MODELDAY#{day}#{key_id}#{model}"


def usage_sk(day: str, key_id: str = "") -> str:
    """The row of a key on a day (`YYYY-MM-DD`); without a key, where the day's rows begin."""
    return f"DAY#{day}#{key_id}"


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens; None where nobody has set a price, which is not a price of 0."""

    input: float | None
    output: float | None

    def cost(self, input_tokens: int, output_tokens: int) -> int | None:
        """In billionths of a dollar; None without prices."""
        if self.input is None or self.output is None:
            return None
        return round((input_tokens * self.input + output_tokens * self.output) * 1_000)
