"""Refusals of what a container does not do, by name, so that a caller knows what to ask for or where."""

from __future__ import annotations

from model_code.serving.errors import ServingError, invalid
from model_code.serving.kinds import ROUTES, Kind

_DOES: dict[Kind, str] = {
    "generation": "generates text",
    "embedding": "makes embeddings",
    "classification": "classifies texts",
}


def refuse_operation(what: str, kind: Kind) -> ServingError:
    """The refusal of an operation (its route) or a feature by a container with a model of that kind."""
    served = ", ".join(ROUTES[kind])
    return invalid(
        f"This model {_DOES[kind]}: it has no {what}. Served here: {served}.",
        param="route" if what.startswith("/") else None,
        code="unsupported_operation",
    )
