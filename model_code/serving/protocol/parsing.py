"""From bytes to a checked request, in the words of the operation that was asked for."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from contracts import adapters, chat, classification, completions, embeddings
from model_code.serving.errors import ServingError, invalid

_FIELDS = {
    field.alias or name
    for module in (chat, completions, embeddings, classification, adapters)
    for model in vars(module).values()
    if isinstance(model, type) and issubclass(model, BaseModel)
    for name, field in model.model_fields.items()
}
_VALUE_ERROR = "Value error, "  # how pydantic begins the words of our own validators

R = TypeVar("R", bound=BaseModel)


def parse(kind: type[R], body: bytes) -> R:
    """The request of a kind in a body; raises ServingError that names the field at fault."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        message = f"The body is not valid UTF-8: byte {error.start} is at fault."
        raise invalid(message, code="invalid_utf8") from None
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        # The input is left out: it is the caller's text and must not travel into logs by way of messages.
        raise _explain(error.errors(include_input=False, include_url=False)[0]) from None


def _explain(error: ErrorDetails) -> ServingError:
    kind, place = error["type"], _place(error["loc"], error["type"] == "extra_forbidden")
    if kind == "json_invalid":
        return invalid(f"The body is not valid JSON: {error['msg']}.", code="invalid_json")
    if kind == "extra_forbidden":
        return invalid(f"Unknown field '{place}'.", param=place, code="unknown_field")
    if kind == "missing":
        return invalid(f"The field '{place}' is required.", param=place, code="missing_field")
    where = f"'{place}': " if place else ""
    return invalid(
        f"{where}{error['msg'].removeprefix(_VALUE_ERROR)}.", param=place or None, code="invalid_value"
    )


def _place(location: tuple[int | str, ...], with_last: bool) -> str:
    """`messages[0].content` from pydantic's location, whose labels of union branches mean nothing outside."""
    place = ""
    for index, piece in enumerate(location):
        if isinstance(piece, int):
            place += f"[{piece}]"
        elif piece in _FIELDS or (with_last and index == len(location) - 1):
            place += f".{piece}" if place else piece
    return place
