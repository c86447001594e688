"""Server-sent events out of bytes. Source: WHATWG HTML, "Server-sent events"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

DONE = b"[DONE]"
MAX_EVENT_BYTES = 1 << 20


class EventTooLargeError(Exception):
    """An event grew beyond MAX_EVENT_BYTES without ending: the sender does not speak the protocol."""


def payloads(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The `data:` of each event, from bytes cut anywhere. Comments and other fields are left out.

    What follows the last blank line is an unfinished event and is dropped.
    """
    rest = b""
    for part in parts:
        rest = (rest + part).replace(b"\r\n", b"\n")
        *events, rest = rest.split(b"\n\n")
        if len(rest) > MAX_EVENT_BYTES:
            raise EventTooLargeError
        for text in events:
            data = [line[5:].removeprefix(b" ") for line in text.split(b"\n") if line.startswith(b"data:")]
            if data:
                yield b"\n".join(data)
