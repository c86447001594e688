"""A request as API Gateway received it, and the reply it gives back.

Plain values: knows neither the emulator nor the deployed configuration. Header names are lower-case on
the way in (as ASGI delivers them); on the way out they keep the case their author chose.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import parse_qsl

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Request:
    """One HTTP request to a stage.

    `path` is the percent-encoded path after the stage, starting with a slash; `query` is the raw query
    string; `origin` is the emulator's own request, for the signature check alone.
    """

    method: str
    path: str
    query: str = ""
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    source_ip: str = "127.0.0.1"
    origin: object = None
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    extended_request_id: str = field(default_factory=lambda: secrets.token_urlsafe(10) + "=")
    received_at: float = field(default_factory=time.time)

    @cached_property
    def header_values(self) -> dict[str, list[str]]:
        """Every value of every header, by lower-case name."""
        values: dict[str, list[str]] = {}
        for name, value in self.headers:
            values.setdefault(name.lower(), []).append(value)
        return values

    @cached_property
    def query_values(self) -> dict[str, list[str]]:
        """Every value of every query-string parameter, decoded; names are case-sensitive."""
        values: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.query, keep_blank_values=True):
            values.setdefault(name, []).append(value)
        return values

    def header(self, name: str) -> str:
        """The last value of a header, or an empty string."""
        values = self.header_values.get(name.lower())
        return values[-1] if values else ""

    def query_value(self, name: str) -> str:
        """The last value of a query-string parameter, or an empty string."""
        values = self.query_values.get(name)
        return values[-1] if values else ""


@dataclass(frozen=True)
class Reply:
    """One HTTP reply. A `body` that is an iterator is forwarded chunk by chunk as it comes."""

    status: int
    headers: Headers
    body: bytes | AsyncIterator[bytes] = b""


def set_header(headers: Headers, name: str, value: str) -> None:
    """Replace every line of a header, whatever its case, by one."""
    headers[:] = [(key, text) for key, text in headers if key.lower() != name.lower()]
    headers.append((name, value))


def has_header(headers: Headers, name: str) -> bool:
    """Whether a header is there, whatever its case."""
    return any(key.lower() == name.lower() for key, _ in headers)
