"""Checks a request against the service's own model, as botocore carries it.

The model says what is required, which values are allowed and how long they may be; the words of each
complaint are the service's. Knows nothing of what an operation does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape

from local.sagemaker.errors import AwsApiError, invalid

# Java's Unicode classes, which Python's `re` lacks. `\w` covers letters and numbers.
_JAVA_CLASSES = {
    r"\p{L}": r"\w",
    r"\p{N}": r"\d",
    r"\p{Z}": r"\s",
    r"\p{M}": r"\u0300-\u036f",
    r"\p{P}": r"!-#%-*,-/:;?@\[-\]_{}\u00a1\u00a7\u00ab\u00b6\u00b7\u00bb\u00bf\u2010-\u2027\u2030-\u205e",
    r"\p{S}": r"$+<->\^`|~\u00a2-\u00a9\u00ac\u00ae-\u00b1\u00b4\u00b8\u00d7\u00f7\u20a0-\u20bf\u2190-\u2bff",
    r"\p{Alnum}": "a-zA-Z0-9",
    r"\p{ASCII}": r"[\x00-\x7f]",
    r"\p{Print}": r"\x20-\x7e",
    r"\z": r"\Z",
    r"\uD800\uDC00-\uDBFF\uDFFF": r"\U00010000-\U0010ffff",
}
# Some patterns repeat the end of the text, which Java takes and Python does not.
_REPEATED_END = re.compile(r"\$\{\d+,\d+\}")
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float, str),
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "blob": (bytes,),
}


@functools.cache
def service_model(service: str) -> ServiceModel:
    """The model of `sagemaker` or `sagemaker-runtime`; reading it takes about a second the first time."""
    return botocore.session.Session().get_service_model(service)


def validate_request(service: str, operation: str, params: Any) -> None:
    """Raise AwsApiError unless `params` fits the operation's input, naming every violation found."""
    if not isinstance(params, dict):
        raise AwsApiError("SerializationException", "The request's body is not a JSON object.")
    shape = service_model(service).operation_model(operation).input_shape
    complaints = list(_violations(params, shape, ""))
    if complaints:
        plural = "s" if len(complaints) > 1 else ""
        raise invalid(f"{len(complaints)} validation error{plural} detected: " + "; ".join(complaints))


def _violations(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if not _has_type(value, shape):
        kind = type(value).__name__
        raise AwsApiError(
            "SerializationException", f"A {kind} at '{path}' cannot be read as {shape.type_name}."
        )
    yield from _constraint_violations(value, shape, path)
    if isinstance(shape, StructureShape):
        yield from _structure_violations(value, shape, path)
    elif isinstance(shape, ListShape):
        for index, member in enumerate(value, start=1):
            yield from _violations(member, shape.member, f"{path}.{index}.member")
    elif isinstance(shape, MapShape):
        for key, member in value.items():
            yield from _violations(key, shape.key, f"{path}.key")
            yield from _violations(member, shape.value, f"{path}.{key}.member")


def _structure_violations(value: dict[str, Any], shape: StructureShape, path: str) -> Iterator[str]:
    for name in value.keys() - shape.members.keys():
        # AWS drops what it does not know; here a misspelt field must not pass unseen.
        yield f"Unknown field '{name}' at '{path or 'the top level'}'"
    for name in shape.required_members:
        if value.get(name) is None:
            yield _complaint(None, _join(path, name), "Member must not be null")
    for name, member in shape.members.items():
        if value.get(name) is not None:
            yield from _violations(value[name], member, _join(path, name))


def _constraint_violations(value: Any, shape: Shape, path: str) -> Iterator[str]:
    limits = shape.metadata
    if shape.type_name in ("integer", "long", "float", "double"):
        if "min" in limits and value < limits["min"]:
            yield _complaint(value, path, f"Member must have value greater than or equal to {limits['min']}")
        if "max" in limits and value > limits["max"]:
            yield _complaint(value, path, f"Member must have value less than or equal to {limits['max']}")
    elif shape.type_name in ("string", "list", "map", "blob"):
        if len(value) < limits.get("min", 0):
            yield _complaint(value, path, f"Member must have length greater than or equal to {limits['min']}")
        if "max" in limits and len(value) > limits["max"]:
            yield _complaint(value, path, f"Member must have length less than or equal to {limits['max']}")
    if "enum" in limits and value not in limits["enum"]:
        yield _complaint(
            value, path, f"Member must satisfy enum value set: [{', '.join(sorted(limits['enum']))}]"
        )
    if "pattern" in limits and not _pattern(limits["pattern"]).fullmatch(value):
        yield _complaint(value, path, f"Member must satisfy regular expression pattern: {limits['pattern']}")


def _has_type(value: Any, shape: Shape) -> bool:
    if isinstance(value, bool) and shape.type_name != "boolean":
        return False
    return isinstance(value, _PYTHON_TYPES[shape.type_name])


@functools.cache
def _pattern(java: str) -> re.Pattern[str]:
    for theirs, ours in _JAVA_CLASSES.items():
        # A range stands within brackets; a class may also stand alone.
        alone = "[" not in java and "-" in ours and not ours.startswith("[")
        java = java.replace(theirs, f"[{ours}]" if alone else ours)
    java = _REPEATED_END.sub("$", java)
    return re.compile(java)


def _join(path: str, name: str) -> str:
    # The service spells members in complaints with a small first letter.
    spelled = name[0].lower() + name[1:]
    return f"{path}.{spelled}" if path else spelled


def _complaint(value: Any, path: str, constraint: str) -> str:
    shown = "null" if value is None else f"'{value}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"
