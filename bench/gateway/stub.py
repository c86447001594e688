"""A model that answers at once, in two protocols: SageMaker's event stream and OpenAI's HTTP.

The same answer stands behind both doors, so that what differs is the doors. Tables that say the same to
everybody stand beside it, for functions that are measured without a cloud. A process of its own:
`python -m bench.gateway.stub PORT`. Standard library only.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import json
import struct
import sys
import time
from typing import ClassVar

TEXT = ["An", "evergreen", "tree", "keeps", "its", "leaves", "all", "the", "year", "round."]
USAGE = {"prompt_tokens": 12, "completion_tokens": len(TEXT), "total_tokens": 12 + len(TEXT)}
MODEL = "stub"


ITEM = {
    "pk": {"S": "KEY#bench"}, "tenant": {"S": "bench"}, "name": {"S": "bench"}, "created_at": {"N": "0"},
    "scopes": {"L": [{"S": "inference"}]}, "usage_identifier": {"S": "bench-usage"},
    "endpoint_name": {"S": "endpoint"},
    "variants": {
        "L": [{"M": {"name": {"S": "champion"}, "weight": {"N": "1"}, "model_version": {"S": "1"}}}]
    },
}  # fmt: skip
"""What every key of the access table holds: a caller's fields and a split's, each reads its own."""
TABLES: dict[bytes, dict[str, object]] = {
    b"getitem": {"Item": ITEM},
    b"batchgetitem": {"Responses": {"access": [ITEM | {"pk": {"S": "ROUTING#endpoint"}}]}},
    b"putitem": {},
    b"updateitem": {"Attributes": {"requests": {"N": "1"}}},
}


def sse_events() -> list[bytes]:
    """The answer as server-sent events."""
    base: dict[str, object] = {
        "id": "chatcmpl-stub",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": MODEL,
    }
    deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": f"{word} "} for word in TEXT]
    choices: list[list[dict[str, object]]] = [
        [{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas
    ]
    choices.append([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    events: list[dict[str, object]] = [{**base, "choices": choice} for choice in choices]
    events.append({**base, "choices": [], "usage": USAGE})
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]


def _message(payload: bytes) -> bytes:
    """A PayloadPart of the `application/vnd.amazon.eventstream` encoding."""
    head = b"".join(
        struct.pack("!B", len(name)) + name + struct.pack("!BH", 7, len(value)) + value
        for name, value in (
            (b":message-type", b"event"),
            (b":event-type", b"PayloadPart"),
            (b":content-type", b"application/octet-stream"),
        )
    )
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + head + payload
    return message + struct.pack("!I", binascii.crc32(message))


def _chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _reply(content_type: bytes, body: bytes, *more: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Type: " + content_type, *more]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _json(answer: object) -> bytes:
    body = json.dumps(answer).encode()
    return _reply(b"application/x-amz-json-1.0", body, b"Content-Length: %d" % len(body))


def _whole() -> bytes:
    message = {"role": "assistant", "content": " ".join(TEXT)}
    answer = {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    return json.dumps(answer).encode()


class _Connection(asyncio.Protocol):
    """One client's requests, one after the other."""

    chunked = b"Transfer-Encoding: chunked"
    sagemaker = _reply(
        b"application/vnd.amazon.eventstream",
        _chunked([_message(chunk) for chunk in sse_events()]),
        b"x-Amzn-Invoked-Production-Variant: champion",
        b"X-Amzn-SageMaker-Content-Type: text/event-stream",
        chunked,
    )
    stream = _reply(b"text/event-stream", _chunked(sse_events()), chunked)
    whole = _reply(b"application/json", _whole(), b"Content-Length: %d" % len(_whole()))
    tables: ClassVar = {name: _json(answer) for name, answer in TABLES.items()}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._received) < end + 4 + length:
                return
            body = self._received[end + 4 : end + 4 + length]
            self._received = self._received[end + 4 + length :]
            self._transport.write(self._answer(head, body))

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if b"/invocations-response-stream" in head.split(b"\r\n")[0]:
            return self.sagemaker
        if b"x-amz-target: dynamodb" in head:
            return self.tables[head.partition(b"x-amz-target: ")[2].split(b"\r\n")[0].rpartition(b".")[2]]
        return self.stream if json.loads(body or b"{}").get("stream") else self.whole


async def main(port: int) -> None:
    """Serve until ended."""
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1])))
