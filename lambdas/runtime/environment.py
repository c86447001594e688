"""The process environment. Nothing else may read or write `os.environ`.

`load` is called while a function starts, so a missing or malformed variable is one clear init error. This
module imports nothing outside the standard library: the streaming bootstrap starts with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

_TRACE_ID = "_X_AMZN_TRACE_ID"


class InvalidEnvironmentError(Exception):
    """A variable is missing or malformed; the message names every such variable."""


E_ = TypeVar("E_", bound="BaseModel")


def load(kind: type[E_], variables: Mapping[str, str] | None = None) -> E_:
    """Read one function's variables, by default the process's own.

    Raises InvalidEnvironmentError naming each one that is missing or malformed.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate(dict(os.environ if variables is None else variables))
    except ValidationError as error:
        problems = "; ".join(f"{detail['loc'][0]}: {detail['msg']}" for detail in error.errors())
        raise InvalidEnvironmentError(f"environment of the function: {problems}") from None


def variables() -> Mapping[str, str]:
    """All variables of the process."""
    return os.environ


def required(name: str) -> str:
    """One variable. Raises KeyError where it is not set."""
    return os.environ[name]


def optional(name: str) -> str | None:
    """One variable; None where it is not set, or empty."""
    return os.environ.get(name) or None


def trace_id() -> str | None:
    """X-Ray's trace header of the invocation under way."""
    return os.environ.get(_TRACE_ID)


def set_trace_id(trace: str | None) -> None:
    """Tell whoever reads the environment, as the managed runtime does, which trace is under way."""
    if trace:
        os.environ[_TRACE_ID] = trace
    else:
        os.environ.pop(_TRACE_ID, None)
