"""`multipart/form-data` as clients upload files with it: field names, file names, contents. Pure.

Source: RFC 7578; parts are cut by their boundary, so contents stay as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message

MOST_PARTS = 16
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


class InvalidFormError(ValueError):
    """The body is no form; the text says what is wrong with it."""


@dataclass(frozen=True)
class Field:
    """One field; `filename` is set for files."""

    name: str
    filename: str | None
    content: bytes


def fields(content_type: str, body: bytes) -> dict[str, Field]:
    """The fields by name; of several with one name the last. Raises InvalidFormError."""
    marker = b"--" + _boundary(content_type).encode()
    pieces = (b"\r\n" + body).split(b"\r\n" + marker)
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise InvalidFormError("the body does not end with its boundary")
    if len(pieces) > MOST_PARTS + 2:
        raise InvalidFormError(f"the body has more than {MOST_PARTS} parts")
    found = {}
    for piece in pieces[1:-1]:
        head, separator, content = piece.partition(b"\r\n\r\n")
        if not separator:
            raise InvalidFormError("a part has no headers")
        field = _field(head, content)
        found[field.name] = field
    return found


def _boundary(content_type: str) -> str:
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/form-data":
        raise InvalidFormError("the content type must be multipart/form-data")
    if not isinstance(boundary, str) or not _BOUNDARY.fullmatch(boundary):
        raise InvalidFormError("the content type names no boundary")
    return boundary


def _field(head: bytes, content: bytes) -> Field:
    message = Message()
    for line in head.decode("utf-8", errors="replace").split("\r\n"):
        header, _, value = line.partition(":")
        if header.strip().lower() == "content-disposition":
            message["content-disposition"] = value.strip()
    name = message.get_param("name", header="content-disposition")
    if not isinstance(name, str) or not name:
        raise InvalidFormError("a part has no name")
    return Field(name, message.get_filename(), content)
