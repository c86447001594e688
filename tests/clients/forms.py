"""The scenario's arguments and its form of an answer, as an application writes them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Weather(BaseModel):
    """Weather of the coming days."""

    city: str
    days: int
    unit: Literal["C", "F"]
    code: int | str


class Tree(BaseModel):
    """A tree."""

    name: str
    height: int
    kind: Literal["conifer", "broadleaf"]
    note: int | None
