"""How traffic is split between an endpoint's variants, as the inference function reads it.

The routing item lives in the access table under `ROUTING#<endpoint name>`, written by whoever moves
weights, read (and cached for at most `ROUTING_CACHE_SECONDS`) by the inference function.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

ROUTING_CACHE_SECONDS = 5.0
CHAMPION = "champion"
CHALLENGER = "challenger"


class VariantRoute(BaseModel):
    """One variant's share of the traffic; weights are relative, as SageMaker's are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weight: float = Field(ge=0)
    model_version: str


class Routing(BaseModel):
    """The split in force. `experiment` salts the sticky hash, so a new experiment reshuffles users."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_name: str
    experiment: str | None = None
    variants: list[VariantRoute] = Field(min_length=1, max_length=10)
