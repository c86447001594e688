"""What SageMaker tells a container about LoRA adapters: `POST /adapters`, `DELETE /adapters/{name}`.

Field names and replies are those of the PyPI package model-hosting-container-standards, which documents the
service's contract. A request then names its adapter in the header `contracts.container.HEADER_ADAPTER`.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

REGISTERED = "Adapter {name} registered"
UNREGISTERED = "Adapter {name} unregistered"


class AdapterRegistration(BaseModel):
    """Body (or query) of `POST /adapters`: `src` is the adapter's folder as the container sees it.

    `preload` and `pin` are promises that are always kept: adapters load at once and are never evicted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    src: str = Field(min_length=1, max_length=4096)
    preload: bool = True
    pin: bool = False


class AdapterListing(BaseModel):
    """One adapter that is loaded: its size in bytes as stored, and how many requests use it now."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    src: str
    bytes: int
    running: int


class AdapterList(BaseModel):
    """Body of `GET /adapters`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    adapters: list[AdapterListing]
