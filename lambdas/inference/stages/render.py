"""Gives the answer the form the caller asked for: server-sent events, or one assembled body."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from contracts.chat import AnswerMessage, ChatCompletion, Choice, Usage
from lambdas.inference import model_errors, sse
from lambdas.inference.exchange import Chunk, Exchange

_SSE_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class Render:
    """Fills `exchange.body` and `exchange.headers` from `exchange.chunks`."""

    def apply(self, exchange: Exchange) -> None:
        """An assembled answer is read to its end here, so its errors keep their status."""
        if exchange.the_request.stream:
            exchange.headers.update(_SSE_HEADERS)
            exchange.body = _events(exchange.chunks)
        else:
            exchange.headers["content-type"] = "application/json"
            exchange.body = iter([assemble(exchange).model_dump_json().encode()])


def _events(chunks: Iterable[Chunk]) -> Iterator[bytes]:
    for chunk in chunks:
        yield sse.event(json.dumps(chunk, ensure_ascii=False, separators=(",", ":")))
    yield sse.event(sse.DONE.decode())


def assemble(exchange: Exchange) -> ChatCompletion:
    """One `chat.completion` from all chunks. Raises ApiError when the stream breaks or says nothing."""
    created: int | None = None
    texts: dict[int, list[str]] = {}
    reasons: dict[int, str] = {}
    usage: Usage | None = None
    for chunk in exchange.chunks:
        created = chunk.get("created", created)
        if chunk.get("usage"):
            usage = Usage.model_validate(chunk["usage"])
        for choice in chunk["choices"]:
            index = choice.get("index", 0)
            texts.setdefault(index, []).append((choice.get("delta") or {}).get("content") or "")
            if choice.get("finish_reason"):
                reasons[index] = choice["finish_reason"]
    if not texts:
        raise model_errors.garbage()
    choices = [
        Choice.model_validate(
            {"index": i, "message": AnswerMessage(content="".join(texts[i])), "finish_reason": reasons.get(i)}
        )
        for i in sorted(texts)
    ]
    return ChatCompletion(
        id=exchange.completion_id,
        created=created or int(exchange.arrival.received_at),
        model=exchange.the_request.model,
        choices=choices,
        usage=usage,
    )
