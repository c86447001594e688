"""What each function reads from its environment, typed. Nothing else may read `os.environ`.

`load` is called while a function starts, so a missing or malformed variable is one clear init error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class BadEnvironment(Exception):
    """A variable is missing or malformed; the message names every such variable."""


class _Environment(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=str.upper, populate_by_name=True)

    environment: str
    log_level: str = "INFO"
    access_table: str


class AuthorizerEnvironment(_Environment):
    """Variables of the authorizer."""


class ApiEnvironment(_Environment):
    """Variables of the buffered routes."""

    endpoint_name: str
    model_name: str
    model_version: str
    records_table: str
    record_ttl_days: int = Field(ge=1)


class InferenceEnvironment(ApiEnvironment):
    """Variables of the streaming routes. `max_body_bytes` is the largest body that is read at all.

    Prices are in US dollars per million tokens; 0 where nobody accounts for cost.
    """

    max_body_bytes: int = Field(ge=1024)
    input_token_price: float = Field(default=0, ge=0)
    output_token_price: float = Field(default=0, ge=0)


E_ = TypeVar("E_", bound=_Environment)


def load(kind: type[E_], variables: Mapping[str, str]) -> E_:
    """Read one function's variables. Raises BadEnvironment naming each one that is missing or malformed."""
    try:
        return kind.model_validate(dict(variables))
    except ValidationError as error:
        problems = "; ".join(f"{detail['loc'][0]}: {detail['msg']}" for detail in error.errors())
        raise BadEnvironment(f"environment of the function: {problems}") from None
