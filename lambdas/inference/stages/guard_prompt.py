"""Checks what the caller sends before the model sees it: masks personal data, refuses what is denied.

A refusal is a completion like any other, with `finish_reason: content_filter` and the reason beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from contracts.chat import ChatRequest, Message, TextPart, Tool, ToolCall
from contracts.completions import CompletionRequest
from contracts.embeddings import EmbeddingsRequest
from lambdas.common.errors import ApiError
from lambdas.inference.exchange import Chunk, Exchange
from lambdas.inference.guards import json_text
from lambdas.inference.guards.base import Action, Finding, Guards
from lambdas.inference.operations import ModelRequest

REFUSAL = "I cannot help with this request."


class GuardPrompt:
    """Replaces texts in `exchange.request`; where the request is refused, fills `exchange.chunks`."""

    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    def apply(self, exchange: Exchange) -> None:
        """Raises ApiError 503 where a guard fails, 400 for embeddings: they have no words to refuse with."""
        if not self._guards:
            return
        exchange.request = self._guarded(exchange, exchange.the_request)
        blocking = exchange.blocked_by
        if blocking is None:
            return
        if isinstance(exchange.request, EmbeddingsRequest):
            raise ApiError(
                "invalid_request_error",
                f"The input is not accepted ({blocking.guard}: {blocking.label}).",
                param="input",
                code="content_filter",
            )
        exchange.chunks = refusal(exchange, REFUSAL)
        exchange.is_answered = True

    def _guarded(self, exchange: Exchange, request: ModelRequest) -> ModelRequest:
        if isinstance(request, ChatRequest):
            changes: dict[str, Any] = {
                "messages": [self._message(exchange, each) for each in request.messages]
            }
            if request.tools:
                changes["tools"] = [self._tool(exchange, tool) for tool in request.tools]
            return request.model_copy(update=changes)
        if isinstance(request, CompletionRequest):
            return request.model_copy(update={"prompt": self._text(exchange, request.prompt)})
        if isinstance(request.input, str):
            return request.model_copy(update={"input": self._text(exchange, request.input)})
        return request.model_copy(update={"input": [self._text(exchange, text) for text in request.input]})

    def _tool(self, exchange: Exchange, tool: Tool) -> Tool:
        if not tool.function.description:
            return tool
        text = self._text(exchange, tool.function.description, trusted=True)
        return tool.model_copy(update={"function": tool.function.model_copy(update={"description": text})})

    def _call(self, exchange: Exchange, call: ToolCall) -> ToolCall:
        text = self._masked(exchange, json_text.whole(call.function.arguments))
        return call.model_copy(update={"function": call.function.model_copy(update={"arguments": text})})

    def _message(self, exchange: Exchange, message: Message) -> Message:
        if message.tool_calls:
            calls = [self._call(exchange, call) for call in message.tool_calls]
            message = message.model_copy(update={"tool_calls": calls})
        if message.content is None:
            return message
        # Whoever builds on this API writes these two and may speak of what callers may not.
        trusted = message.role in {"system", "developer"}
        if isinstance(message.content, str):
            return message.model_copy(update={"content": self._text(exchange, message.content, trusted)})
        parts = [
            TextPart(type="text", text=self._text(exchange, part.text, trusted)) for part in message.content
        ]
        return message.model_copy(update={"content": parts})

    def _text(self, exchange: Exchange, text: str, trusted: bool = False) -> str:
        return self._masked(exchange, json_text.plain(text), trusted)

    def _masked(self, exchange: Exchange, reading: json_text.Reading, trusted: bool = False) -> str:
        findings = self._guards.check(reading.text, exchange.guard_times)
        if trusted:
            findings = [finding for finding in findings if finding.action is not Action.BLOCK]
        return reading.changed(exchange.note(findings), exchange.vault.mask)


def first_block(findings: list[Finding]) -> Finding | None:
    """The finding that refuses a text; None where it may pass."""
    return next((finding for finding in findings if finding.action is Action.BLOCK), None)


def refusal(exchange: Exchange, text: str, answers: Sequence[int] | None = None) -> Iterator[Chunk]:
    """Refused answers, all or these, as a chunk; the model has no part in it, so it has used nothing."""
    blocking = exchange.blocked_by
    choices: list[Chunk] = []
    for index in range(exchange.the_generation.answers) if answers is None else answers:
        choice: Chunk = {"index": index, "finish_reason": "content_filter"}
        exchange.generation.set_text(choice, text)
        if blocking is not None:
            choice["content_filter"] = f"{blocking.guard}:{blocking.label}"
        choices.append(choice)
    yield {
        "id": exchange.answer_id,
        "object": exchange.generation.chunk_object,
        "created": int(exchange.arrival.received_at),
        "model": exchange.the_request.model,
        "choices": choices,
    }
