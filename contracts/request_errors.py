"""What is wrong with a request, in the words that callers read: one message, the parameter, a code.

The API and the model container say it alike. Parameters are written as OpenAI writes them:
`messages[0].content`. Names of union branches, which pydantic puts into an error's place, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from contracts.requests import UNSUPPORTED, UNSUPPORTED_PARAMETER

_VALUE_ERROR = "Value error, "  # how pydantic begins the words of our own validators
MISSING = "missing_parameter"
_BRANCHES = {"str", "int", "float", "bool", "none"}


@dataclass(frozen=True)
class RequestFault:
    """Why a request is refused. `param` is None where the whole body is at fault."""

    message: str
    param: str | None
    code: str


def first_fault(error: ValidationError) -> RequestFault:
    """The first thing that is wrong. Never repeats the caller's values: they may be confidential."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return _fault(details[0])


def reads_text_only(place: str) -> RequestFault:
    """The refusal of an image at a place, by a model that reads none."""
    text = f"'{place}' is not supported: this model reads text only, no 'image_url'."
    return RequestFault(text, place, UNSUPPORTED_PARAMETER)


def _fault(detail: ErrorDetails) -> RequestFault:
    kind, param = detail["type"], place(detail["loc"])
    if kind == "json_invalid":
        return RequestFault(
            f"The body is not valid JSON: {detail['msg'].removeprefix('Invalid JSON: ')}.",
            None,
            "invalid_json",
        )
    if kind == "extra_forbidden":
        if param in UNSUPPORTED:
            text = f"The parameter '{param}' is not supported: {UNSUPPORTED[param]}."
            return RequestFault(text, param, UNSUPPORTED_PARAMETER)
        return RequestFault(f"Unknown parameter: '{param}'.", param, "unknown_parameter")
    if kind == "missing":
        return RequestFault(f"Missing required parameter: '{param}'.", param, MISSING)
    words = detail["msg"].removeprefix(_VALUE_ERROR).removesuffix(".")
    if kind == UNSUPPORTED_PARAMETER:
        return RequestFault(f"'{param}' is not supported: {words}.", param, UNSUPPORTED_PARAMETER)
    text = f"Invalid value for '{param}': {words}." if param else f"Invalid body: {words}."
    return RequestFault(text, param, "invalid_value")


def place(location: tuple[int | str, ...]) -> str | None:
    """`messages[0].content` for a pydantic location."""
    written = ""
    for step in location:
        if isinstance(step, int):
            written += f"[{step}]"
        elif not _is_branch(step):
            written += f".{step}" if written else step
    return written or None


def _is_branch(step: str) -> bool:
    """Whether a step names a branch of a union: a tag of ours in angle brackets, or a type's name."""
    return step in _BRANCHES or step[:1] == "<" or "[" in step or step[:1].isupper()
