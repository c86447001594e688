"""Gives the answer the form the caller asked for: server-sent events, or one assembled body."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from contracts.chat import Usage
from lambdas.aws import model_errors
from lambdas.pipeline import sse
from lambdas.pipeline.operations import Gathered
from lambdas.pipeline.pending_response import HEARTBEAT
from lambdas.pipeline.request import Chunk, Exchange

_SSE_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class Render:
    """Fills `exchange.body` and `exchange.headers` from `exchange.chunks`."""

    def apply(self, exchange: Exchange) -> None:
        """An assembled answer is read to its end here, so its errors keep their status."""
        if exchange.the_generation.stream:
            exchange.headers.update(_SSE_HEADERS)
            exchange.body = _events(exchange.chunks)
        else:
            exchange.headers["content-type"] = "application/json"
            exchange.body = iter([assemble(exchange).model_dump_json().encode()])


def _events(chunks: Iterable[Chunk]) -> Iterator[bytes]:
    for chunk in chunks:
        if chunk is HEARTBEAT:
            yield sse.COMMENT
            continue
        yield sse.event(json.dumps(chunk, ensure_ascii=False, separators=(",", ":")))
    yield sse.event(sse.DONE.decode())


def assemble(exchange: Exchange) -> BaseModel:
    """One reply from all chunks. Raises ApiError when the stream breaks or says nothing."""
    created: int | None = None
    answers: dict[int, Gathered] = {}
    usage: Usage | None = None
    for chunk in exchange.chunks:
        created = chunk.get("created", created)
        if chunk.get("usage"):
            usage = Usage.model_validate(chunk["usage"])
        for choice in chunk["choices"]:
            index = choice.get("index", 0)
            exchange.generation.gather(answers.setdefault(index, Gathered(index)), choice)
    if not answers:
        raise model_errors.garbage()
    return exchange.generation.whole(
        exchange.answer_id,
        created or int(exchange.incoming.received_at),
        exchange.the_request.model,
        [answers[index] for index in sorted(answers)],
        usage,
    )
