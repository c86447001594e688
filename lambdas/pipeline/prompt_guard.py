"""Checks what the caller sends before the model sees it: masks personal data, refuses what is denied.

A refusal is a completion like any other, with `finish_reason: content_filter` and the reason beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from contracts.chat import ChatRequest
from contracts.completions import CompletionRequest
from contracts.messages import Message, TextPart, ToolCall
from contracts.moderation import ModerationRequest
from contracts.texts import TextsRequest
from contracts.tools import LONGEST_NAME, ResponseFormat, Tool
from lambdas.pipeline.guards import json_text
from lambdas.pipeline.guards.base import Action, Finding, Guards
from lambdas.pipeline.guards.session import GuardSession
from lambdas.pipeline.operations import ModelRequest
from lambdas.pipeline.request import Chunk, TextGeneration
from lambdas.runtime.errors import ApiError

REFUSAL = "I cannot help with this request."


class GuardPrompt:
    """The body as the model may read it; findings that block it stand in the report."""

    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    def __call__(self, body: ModelRequest, guards: GuardSession) -> ModelRequest:
        """Raises ApiError 503 where a guard fails, and 400 where an answer has no words to refuse with.

        What is to be moderated is asked about, not answered: it passes as it is.
        """
        if isinstance(body, ModerationRequest):
            return body
        with guards.span_of_prompt():
            return (
                self._texts(guards, body) if isinstance(body, TextsRequest) else self._guarded(guards, body)
            )

    def _texts(self, guards: GuardSession, request: TextsRequest) -> TextsRequest:
        """Texts for which the answer is numbers. Raises ApiError 400 that names the first refused one."""
        texts = []
        for index, text in enumerate(request.texts):
            texts.append(self._text(guards, text))
            if (blocking := guards.report.blocked_by) is not None:
                raise ApiError(
                    "invalid_request_error",
                    f"The input is not accepted ({blocking.guard}: {blocking.label}).",
                    param=request.place(index),
                    code="content_filter",
                )
        return request.with_texts(texts)

    def _guarded(
        self, guards: GuardSession, request: ChatRequest | CompletionRequest
    ) -> ChatRequest | CompletionRequest:
        if isinstance(request, ChatRequest):
            changes: dict[str, Any] = {"messages": [self._message(guards, each) for each in request.messages]}
            self._refuse_names(guards, request)
            if request.tools:
                changes["tools"] = [self._tool(guards, tool) for tool in request.tools]
            if request.response_format and request.response_format.json_schema:
                changes["response_format"] = self._format(guards, request.response_format)
            return request.model_copy(update=changes)
        if len(request.texts) < len(request.prompts):
            raise ApiError(
                "invalid_request_error",
                "Prompts are guarded here, and guards read text: send the prompt as text.",
                param="prompt",
                code="unsupported_with_guards",
            )
        texts = [self._text(guards, text) for text in request.texts]
        prompt = texts[0] if isinstance(request.prompt, str) else texts
        return request.model_copy(update={"prompt": prompt})

    def _refuse_names(self, guards: GuardSession, request: ChatRequest) -> None:
        """Callers look functions and schemas up by their names: what would be masked there is refused."""
        names = [tool.function.name for tool in request.tools or []]
        if request.response_format and request.response_format.json_schema:
            names.append(request.response_format.json_schema.name)
        if names:
            findings = self._guards.check("\n".join(names), guards.report.times)
            guards.note([replace(finding, action=Action.BLOCK) for finding in findings])

    def _tool(self, guards: GuardSession, tool: Tool) -> Tool:
        changed = self._json(
            guards, tool.function.model_dump(include={"description", "parameters"}, exclude_unset=True)
        )
        return tool.model_copy(update={"function": tool.function.model_copy(update=changed)})

    def _format(self, guards: GuardSession, wanted: ResponseFormat) -> ResponseFormat:
        assert wanted.json_schema is not None
        fields = wanted.json_schema.model_dump(
            include={"description", "schema_"}, exclude_unset=True, by_alias=False
        )
        schema = wanted.json_schema.model_copy(update=self._json(guards, fields))
        return wanted.model_copy(update={"json_schema": schema})

    def _json(self, guards: GuardSession, value: dict[str, Any]) -> dict[str, Any]:
        """The value with its strings masked; what is no string stays: a schema needs its numbers."""
        reading = json_text.strings(json.dumps(value, ensure_ascii=False))
        changed: dict[str, Any] = json.loads(self._masked(guards, reading))
        return changed

    def _call(self, guards: GuardSession, call: ToolCall) -> ToolCall:
        changes = {
            "name": self._name(guards, call.function.name),
            "arguments": self._masked(guards, json_text.whole(call.function.arguments)),
        }
        return call.model_copy(update={"function": call.function.model_copy(update=changes)})

    def _name(self, guards: GuardSession, name: str) -> str:
        return self._text(guards, name)[:LONGEST_NAME]  # a mask may be longer than what it stands for

    def _message(self, guards: GuardSession, message: Message) -> Message:
        changes: dict[str, Any] = {}
        if message.tool_calls:
            changes["tool_calls"] = [self._call(guards, call) for call in message.tool_calls]
        if message.name:
            changes["name"] = self._name(guards, message.name)
        if message.content is not None:
            # Whoever builds on this API writes these two and may speak of what callers may not.
            trusted = message.role in {"system", "developer"}
            # The model reads the parts of a content joined, so joined they are checked.
            text = self._text(guards, message.text, trusted)
            if isinstance(message.content, str):
                changes["content"] = text
            elif text != message.text:
                changes["content"] = [TextPart(type="text", text=text), *message.images]
        return message.model_copy(update=changes)

    def _text(self, guards: GuardSession, text: str, trusted: bool = False) -> str:
        return self._masked(guards, json_text.plain(text), trusted)

    def _masked(self, guards: GuardSession, reading: json_text.Reading, trusted: bool = False) -> str:
        findings = self._guards.check(reading.text, guards.report.times)
        if trusted:
            findings = [finding for finding in findings if finding.action is not Action.BLOCK]
        return reading.changed(guards.note(findings), guards.vault.mask)


def first_block(findings: list[Finding]) -> Finding | None:
    """The finding that refuses a text; None where it may pass."""
    return next((finding for finding in findings if finding.action is Action.BLOCK), None)


def refusal(
    generation: TextGeneration, blocking: Finding | None, text: str, answers: Sequence[int] | None = None
) -> Iterator[Chunk]:
    """Refused answers, all or these, as a chunk; the model has no part in it, so it has used nothing."""
    choices: list[Chunk] = []
    for index in range(generation.body.answers) if answers is None else answers:
        choice: Chunk = {"index": index, "finish_reason": "content_filter"}
        generation.operation.set_text(choice, text)
        if blocking is not None:
            choice["content_filter"] = f"{blocking.guard}:{blocking.label}"
        choices.append(choice)
    yield {
        "id": generation.answer_id,
        "object": generation.operation.chunk_object,
        "created": generation.created,
        "model": generation.body.model,
        "choices": choices,
    }
