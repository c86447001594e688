"""Watches the answer go by: ids, first token, finish reason, usage. Little work per chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lambdas.pipeline.pending_response import HEARTBEAT
from lambdas.pipeline.request import Chunk, Exchange


class Observe:
    """Wraps `exchange.chunks`: gives the answer its public id and model name, notes counts and times."""

    def apply(self, exchange: Exchange) -> None:
        """A usage chunk the caller did not ask for is kept from it, not from us."""
        exchange.chunks = _observed(exchange, exchange.chunks)


def _observed(exchange: Exchange, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    request = exchange.the_generation
    options = request.stream_options
    show_usage = not request.stream or (options is not None and options.include_usage)
    for chunk in chunks:
        if chunk is HEARTBEAT:
            yield chunk
            continue
        chunk["id"] = exchange.answer_id
        chunk["model"] = request.model
        _note(exchange, chunk)
        if not show_usage and chunk.pop("usage", None) is not None and not chunk["choices"]:
            continue
        yield chunk


def _note(exchange: Exchange, chunk: Chunk) -> None:
    for choice in chunk["choices"]:
        says = exchange.generation.text(choice) or exchange.generation.calls(choice)
        if says and not exchange.is_answered:
            exchange.pieces += 1
            exchange.last_token_at = exchange.clock()
            if exchange.first_token_at is None:
                exchange.first_token_at = exchange.last_token_at
        exchange.finish_reason = choice.get("finish_reason") or exchange.finish_reason
    usage = chunk.get("usage")
    if usage:
        exchange.prompt_tokens = usage.get("prompt_tokens")
        exchange.completion_tokens = usage.get("completion_tokens")
