"""From the `model` of a request to an entry of the catalogue, or to why there is none. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from contracts.access import Principal, may_call
from contracts.catalogue import Catalogue, ModelEntry, ModelKind
from contracts.chat import ChatRequest
from contracts.container import ROUTE_CHAT
from contracts.request_errors import reads_text_only
from lambdas.pipeline.operations import ModelRequest, Operation
from lambdas.runtime.errors import ApiError

ROUTES: dict[ModelKind, tuple[str, ...]] = {
    "chat": ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions"),
    "embedding": ("/v1/embeddings", "/v1/rerank", "/v1/score"),
    "rerank": ("/v1/rerank", "/v1/score"),
    "classification": ("/v1/classify", "/v1/moderations"),
}
"""By kind of model, the routes that ask it."""

_MOST_NAMED = 8


def usable(catalogue: Catalogue, scopes: frozenset[str]) -> list[ModelEntry]:
    """The models that these scopes allow."""
    return [entry for entry in catalogue.entries if may_call(scopes, entry.name)]


def find_model(catalogue: Catalogue, operation: Operation, name: str, caller: Principal) -> ModelEntry:
    """The entry of a name or alias.

    Raises ApiError: 404 for a model that is not there, or not for this key, in the same words; 400 for one
    that does something else.
    """
    entry = catalogue.find(name)
    if entry is None or not caller.may_call(entry.name):
        raise not_found(name, usable(catalogue, caller.scopes))
    if entry.kind is not None and entry.kind not in operation.kinds:
        raise _of_another_kind(entry, operation, usable(catalogue, caller.scopes))
    if entry.target.kind == "bedrock" and operation.container_route != ROUTE_CHAT:
        raise _unsupported(
            f"The model '{entry.name}' answers chats only, as {ROUTE_CHAT} takes them.", "model"
        )
    return entry


def not_found(name: str, known: Iterable[ModelEntry]) -> ApiError:
    """The 404 for a model, as OpenAI words it, with the models there are."""
    there = _listed([entry.name for entry in known])
    shown = name if name.isprintable() and len(name) <= 128 else "…"
    return ApiError(
        "not_found_error",
        f"The model `{shown}` does not exist or you do not have access to it;"
        f" GET /v1/models lists what there is ({there}).",
        param="model",
        code="model_not_found",
    )


def _of_another_kind(entry: ModelEntry, operation: Operation, known: Iterable[ModelEntry]) -> ApiError:
    assert entry.kind is not None
    fitting = [each.name for each in known if each.kind in (None, *operation.kinds)]
    return _unsupported(
        f"The model '{entry.name}' is of kind {entry.kind}: ask it by {' or '.join(ROUTES[entry.kind])}."
        f" Models for {operation.route}: {_listed(fitting)}.",
        "model",
    )


def check_capabilities(entry: ModelEntry, body: ModelRequest) -> None:
    """Raises ApiError 400 for what the model does not declare: it would fail there, in other words."""
    if not isinstance(body, ChatRequest):
        return
    can = entry.capabilities
    for place, url in body.images.items():
        _check_image(entry, place, url)
    if body.tools and not can.tools:
        raise _unsupported(f"The model '{entry.name}' calls no tools; leave 'tools' out.", "tools")
    is_free = body.response_format is None or body.response_format.type == "text"
    if not is_free and not can.structured_output:
        text = f"The model '{entry.name}' keeps to no schema; leave 'response_format' out."
        raise _unsupported(text, "response_format")


def _check_image(entry: ModelEntry, place: str, url: str) -> None:
    if not entry.capabilities.images:
        fault = reads_text_only(place)
        raise ApiError("invalid_request_error", fault.message, param=place, code=fault.code)
    if entry.target.kind == "endpoint" and not url.startswith("data:"):
        text = "This model fetches nothing from elsewhere: send the image itself, as a 'data:' URL."
        raise ApiError("invalid_request_error", text, param=place, code="invalid_value")


def _unsupported(text: str, param: str) -> ApiError:
    return ApiError("invalid_request_error", text, param=param, code="unsupported_operation")


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = ", ".join(f"'{name}'" for name in names[:_MOST_NAMED])
    return (shown + (f" and {more} more" if more > 0 else "")) or "none for this key"
