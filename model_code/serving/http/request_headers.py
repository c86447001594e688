"""What a request says outside its body: SageMaker's headers and the custom attributes."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from starlette.datastructures import Headers

from contracts import container
from contracts.container import decode_attributes

_LONGEST_ID = 128
_LONGEST_NUMBER = 12


@dataclass(frozen=True)
class RequestHeaders:
    """A request's id, the operation it asks for (empty: the container's own), its adapter, session and
    timeout in seconds; all but the id may be unset."""

    request_id: str
    route: str = ""
    traceparent: str | None = None
    adapter: str | None = None
    session: str | None = None
    timeout: float | None = None
    caller: str = ""

    @classmethod
    def read(cls, headers: Headers) -> RequestHeaders:
        """From a request's headers. Never refuses: a useless id is replaced, a useless timeout left out."""
        attributes = decode_attributes(headers.get(container.HEADER_CUSTOM_ATTRIBUTES))
        given = attributes.get(container.ATTRIBUTE_REQUEST_ID, "")
        usable = 0 < len(given) <= _LONGEST_ID and given.isascii() and given.isprintable()
        timeout = attributes.get(container.ATTRIBUTE_TIMEOUT_MS, "")[:_LONGEST_NUMBER]
        return cls(
            request_id=given if usable else uuid.uuid4().hex,
            route=attributes.get(container.ATTRIBUTE_ROUTE, ""),
            traceparent=attributes.get(container.ATTRIBUTE_TRACEPARENT) or None,
            adapter=headers.get(container.HEADER_ADAPTER) or None,
            session=headers.get(container.HEADER_SESSION) or None,
            caller=attributes.get(container.ATTRIBUTE_CALLER, "")[:_LONGEST_ID],
            timeout=int(timeout) / 1000 if timeout.isdecimal() and timeout.isascii() else None,
        )

    @property
    def ids(self) -> dict[str, str]:
        """What every log line of the request carries."""
        ids = {"request_id": self.request_id}
        if self.traceparent:
            ids["traceparent"] = self.traceparent
        if self.session:
            ids["session"] = self.session
        return ids
