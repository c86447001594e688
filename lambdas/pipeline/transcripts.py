"""Keeps what was said, with personal data masked whatever the guards are set to.

Only where a bucket is set, and never for keys that opted out.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from contracts import metrics
from contracts.chat import ChatRequest
from contracts.completions import CompletionRequest
from contracts.messages import Message
from contracts.transcripts import Transcript, Turn, transcript_key
from lambdas.pipeline.guards.pii import PiiRules
from lambdas.pipeline.guards.vault import Vault
from lambdas.pipeline.model_parts import Models
from lambdas.pipeline.operations import Gathered
from lambdas.pipeline.post_response import record_of
from lambdas.pipeline.request import Admission, Chunk, Response, TextGeneration
from lambdas.runtime.logs import Logger
from lambdas.runtime.metrics import MetricLine

_PII = PiiRules()


class TranscriptSink(Protocol):
    """Where transcripts are kept."""

    def put(self, key: str, body: bytes) -> None:
        """Keep one JSON line under its key. Raises when it could not be stored."""


class AnswerText:
    """A watcher: gathers the answer as the caller gets it."""

    def __init__(self, generation: TextGeneration) -> None:
        self._generation = generation
        self._answers: dict[int, Gathered] = {}

    def __call__(self, chunk: Chunk) -> None:
        """Take what a chunk adds."""
        for choice in chunk["choices"]:
            index = choice.get("index", 0)
            self._generation.operation.gather(self._answers.setdefault(index, Gathered(index)), choice)

    @property
    def texts(self) -> list[str]:
        """The answers so far, in order."""
        gathered = [self._answers[index] for index in sorted(self._answers)]
        return [said(answer.text, answer.calls) for answer in gathered]


def said(text: str, calls: list[dict[str, Any]]) -> str:
    """A turn as one text, with its tool calls as JSON."""
    return "\n".join(
        [text] * bool(text) + [json.dumps(call["function"], ensure_ascii=False) for call in calls]
    )


class StoreTranscript:
    """Stores the transcript of a generation once its reply is over."""

    def __init__(self, sink: TranscriptSink, endpoint_name: str, models: Models, logger: Logger) -> None:
        self._sink = sink
        self._endpoint_name = endpoint_name
        self._models = models
        self._logger = logger

    def __call__(self, admission: Admission, day: str, answer: list[str], response: Response) -> None:
        """A transcript that cannot be stored is logged and counted like a lost record."""
        request, body = admission.request, admission.body
        if not request.principal.keep_text or not isinstance(body, ChatRequest | CompletionRequest):
            return
        record = record_of(request, response, self._models.parts(request.entry).prices)
        transcript = Transcript(
            operation=request.operation.route,
            record=record,
            prompt=[Turn(role=turn.role, text=_masked(turn.text)) for turn in _prompt(body)],
            answer=_masked("\n\n".join(answer)),
            findings=record.findings,
            cost_usd=None if record.cost_nano_usd is None else record.cost_nano_usd / 1e9,
        )
        try:
            key = transcript_key(day, transcript.record)
            self._sink.put(key, transcript.model_dump_json().encode() + b"\n")
        except Exception as error:  # noqa: BLE001 - the reply has gone
            self._logger.failure("transcript_write_failed", error)
            line = MetricLine({metrics.DIM_ENDPOINT: self._endpoint_name})
            line.add({metrics.RECORDS_LOST: (1, "Count")}, [[metrics.DIM_ENDPOINT]])
            line.emit(request_id=request.incoming.request_id)


def _prompt(request: ChatRequest | CompletionRequest) -> list[Turn]:
    if isinstance(request, CompletionRequest):
        # Token ids are written as they are: there is no tokenizer here.
        return [Turn(role="user", text=str(prompt)) for prompt in request.prompts]
    return [Turn(role=message.role, text=_turn(message)) for message in request.messages]


def _turn(message: Message) -> str:
    return said(message.text, [call.model_dump() for call in message.tool_calls or []])


def _masked(text: str) -> str:
    return Vault().mask_for_good(text, _PII.check(text))
