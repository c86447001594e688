"""Refusals of what a container does not do, by name, so that a caller knows what to ask for or where."""

from __future__ import annotations

from contracts import container
from model_code.serving.errors import ServingError, invalid
from model_code.serving.model_tasks import ROUTES, ModelTask

_DOES: dict[ModelTask, str] = {
    "generation": "generates text",
    "embedding": "makes embeddings",
    "classification": "classifies texts",
    "reranking": "scores pairs of texts",
}


_LONGEST_SHOWN = 128


def unsupported_route(route: str, task: ModelTask) -> ServingError:
    """The refusal of a route that a container with a model for that task does not answer."""
    public = container.public_route(route)
    if not any(public in routes for routes in ROUTES.values()):
        text = f"The route '{route[:_LONGEST_SHOWN]}' is not served here."
        return invalid(text, param=container.ATTRIBUTE_ROUTE, code="unknown_route", status=404)
    return unsupported_feature(public, task, param=container.ATTRIBUTE_ROUTE)


def unsupported_feature(what: str, task: ModelTask, *, param: str | None = None) -> ServingError:
    """The refusal of something that other kinds of model do."""
    served = ", ".join(ROUTES[task])
    text = f"This model {_DOES[task]}: it has no {what}. Served here: {served}."
    return invalid(text, param=param, code="unsupported_operation")
