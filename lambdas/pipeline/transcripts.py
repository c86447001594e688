"""Keeps what was said, with personal data masked whatever the guards are set to.

Only where a bucket is set, and never for keys that opted out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from contracts import metrics
from contracts.chat import ChatRequest, Message
from contracts.completions import CompletionRequest
from contracts.prices import Prices
from contracts.transcripts import Transcript, Turn, transcript_key
from lambdas.pipeline.guards.pii import PiiRules
from lambdas.pipeline.guards.vault import Vault
from lambdas.pipeline.operations import Gathered
from lambdas.pipeline.post_response import record_of
from lambdas.pipeline.request import Chunk, Exchange
from lambdas.runtime.logs import Logger
from lambdas.runtime.metrics import MetricLine

_PII = PiiRules()


class TranscriptSink(Protocol):
    """Where transcripts are kept."""

    def put(self, key: str, body: bytes) -> None:
        """Keep one JSON line under its key. Raises when it could not be stored."""


class KeepAnswer:
    """Wraps `exchange.chunks`: gathers the answer as the caller gets it."""

    def apply(self, exchange: Exchange) -> None:
        """Embeddings say nothing that is worth keeping and do not pass here."""
        if exchange.the_caller.keep_text:
            exchange.chunks = _kept(exchange, exchange.chunks)


def _kept(exchange: Exchange, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    answers: dict[int, Gathered] = {}
    try:
        for chunk in chunks:
            for choice in chunk["choices"]:
                index = choice.get("index", 0)
                exchange.generation.gather(answers.setdefault(index, Gathered(index)), choice)
            yield chunk
    finally:
        exchange.answer_texts = [said(answers[index].text, answers[index].calls) for index in sorted(answers)]


def said(text: str, calls: list[dict[str, Any]]) -> str:
    """A turn as one text, with its tool calls as JSON."""
    return "\n".join(
        [text] * bool(text) + [json.dumps(call["function"], ensure_ascii=False) for call in calls]
    )


class StoreTranscript:
    """Stores the transcript of a generation once its reply is over."""

    def __init__(self, sink: TranscriptSink, endpoint_name: str, prices: Prices, logger: Logger) -> None:
        self._sink = sink
        self._endpoint_name = endpoint_name
        self._prices = prices
        self._logger = logger

    def apply(self, exchange: Exchange) -> None:
        """A transcript that cannot be stored is logged and counted like a lost record."""
        if exchange.caller is None or not exchange.caller.keep_text or not exchange.day:
            return
        if not isinstance(exchange.request, ChatRequest | CompletionRequest):
            return
        transcript = self._transcript(exchange, _prompt(exchange.request))
        try:
            key = transcript_key(exchange.day, transcript.record)
            self._sink.put(key, transcript.model_dump_json().encode() + b"\n")
        except Exception as error:
            self._logger.failure("transcript_write_failed", error)
            line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name})
            line.add({metrics.RECORDS_LOST: (1, "Count")}, [[metrics.DIM_ENDPOINT]])
            line.emit(request_id=exchange.incoming.request_id)

    def _transcript(self, exchange: Exchange, prompt: list[Turn]) -> Transcript:
        record = record_of(exchange, self._prices)
        return Transcript(
            operation=exchange.operation.route,
            record=record,
            prompt=[Turn(role=turn.role, text=_masked(turn.text)) for turn in prompt],
            answer=_masked("\n\n".join(exchange.answer_texts)),
            findings=record.findings,
            cost_usd=record.cost_nano_usd / 1e9,
        )


def _prompt(request: ChatRequest | CompletionRequest) -> list[Turn]:
    if isinstance(request, CompletionRequest):
        return [Turn(role="user", text=request.prompt)]
    return [Turn(role=message.role, text=_turn(message)) for message in request.messages]


def _turn(message: Message) -> str:
    return said(message.text, [call.model_dump() for call in message.tool_calls or []])


def _masked(text: str) -> str:
    return Vault().mask_for_good(text, _PII.check(text))
