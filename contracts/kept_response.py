"""An answer of `/v1/responses` that later requests may refer to, as the work table holds it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from contracts.messages import Message
from contracts.response_objects import ModelResponse

PREFIX = "RESPONSE#"
"""Begins the sort keys of the rows."""


class KeptResponse(BaseModel):
    """`tenant` and `user` are what deletion goes by.

    `conversation`: the turns up to and with the answer, but for instructions; None where they are too long.
    """

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    tenant: str
    user: str | None = None
    response: ModelResponse
    conversation: list[Message] | None = None
