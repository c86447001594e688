"""`multipart/form-data` as clients upload files with it: field names, file names, contents. Pure.

Source: RFC 7578, as python-multipart reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field as FormField
from python_multipart.multipart import File, parse_options_header

MOST_PARTS = 16
_LONGEST_BOUNDARY = 70  # RFC 2046, 5.1.1
_CONFIG = {"MAX_MEMORY_FILE_SIZE": float("inf")}  # the whole body is in memory already


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
    parts = _Parts()
    parser = FormParser(
        "multipart/form-data",
        parts.add_field,
        parts.add_file,
        parts.end,
        boundary=_boundary(content_type),
        config=_CONFIG,
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise InvalidFormError(str(error)) from None
    if not parts.complete:
        raise InvalidFormError("the body does not end with its boundary")
    return parts.by_name


class _Parts:
    """What the parser has reported so far."""

    def __init__(self) -> None:
        self.by_name: dict[str, Field] = {}
        self.complete = False
        self._count = 0

    def add_field(self, field: FormField) -> None:
        self._add(field.field_name, None, field.value or b"")

    def add_file(self, file: File) -> None:
        file.file_object.seek(0)
        self._add(file.field_name, file.file_name, file.file_object.read())

    def end(self) -> None:
        self.complete = True

    def _add(self, name: bytes | None, filename: bytes | None, content: bytes) -> None:
        if not name:
            raise InvalidFormError("a part has no name")
        self._count += 1
        if self._count > MOST_PARTS:
            raise InvalidFormError(f"the body has more than {MOST_PARTS} parts")
        field = Field(_text(name), None if filename is None else _text(filename), content)
        self.by_name[field.name] = field


def _boundary(content_type: str) -> bytes:
    try:
        media_type, options = parse_options_header(content_type)
    except UnicodeEncodeError:
        raise InvalidFormError("the content type cannot be read") from None
    if media_type != b"multipart/form-data":
        raise InvalidFormError("the content type must be multipart/form-data")
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise InvalidFormError("the content type names no boundary")
    return boundary


def _text(header: bytes) -> str:
    return header.decode("utf-8", errors="replace")
