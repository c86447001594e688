"""From pieces to OpenAI's answers: a whole body, or the events of a stream, for chats and text completions.

A output of plain text, which is nearly every one, is written into a frame that was made once per request.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel

from contracts.chat import (
    AnswerMessage,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    Delta,
    FunctionDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from contracts.completions import Completion, CompletionChoice, CompletionLogprobs
from contracts.messages import CalledFunction, ToolCall
from model_code.serving.protocol.deltas import OutputDelta, ToolCallPart

DONE = b"data: [DONE]\n\n"
_quote = json.JSONEncoder(ensure_ascii=False).encode


@dataclass
class CollectedOutput:
    """One answer put together from its pieces."""

    texts: list[str] = field(default_factory=list)
    calls: list[ToolCallPart] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    last: OutputDelta | None = None

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join(self.texts)

    def add(self, output: OutputDelta) -> None:
        """Take the next output."""
        self.texts.append(output.text)
        self.logprobs += output.logprobs or []
        self.last = output
        for call in output.calls:
            if call.number < len(self.calls):
                known = self.calls[call.number]
                self.calls[call.number] = ToolCallPart(
                    call.number, known.arguments + call.arguments, known.id, known.name
                )
            else:
                self.calls.append(call)


class ChatWriter:
    """Writes one chat's answer with the same id, time and model throughout."""

    def __init__(self, id: str, model: str, prompt_tokens: int, created: int | None = None) -> None:
        self._id = f"chatcmpl-{id}"
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._created = int(time.time()) if created is None else created
        self._frames: dict[int, tuple[bytes, bytes]] = {}

    def whole(self, answers: Sequence[CollectedOutput]) -> bytes:
        """The body of a reply that is not streamed."""
        choices = [_choice(index, answer) for index, answer in enumerate(answers)]
        completion = ChatCompletion(
            id=self._id,
            object="chat.completion",
            created=self._created,
            model=self._model,
            choices=choices,
            usage=_usage(self._prompt_tokens, answers),
        )
        return completion.model_dump_json().encode()

    def events(self, output: OutputDelta, *, opening: bool) -> bytes:
        """The events of one delta: whose turn it is where it opens an answer, what it adds, why it ended."""
        if not opening and not (output.finish_reason or output.calls or output.logprobs):
            return self._text(output.index, output.text)
        parts = []
        if opening:
            parts.append(self._chunk(output.index, Delta(role="assistant", content="")))
        if output.text or output.calls or output.logprobs:
            parts.append(self._chunk(output.index, _delta(output), logprobs=_logprobs(output.logprobs)))
        if output.finish_reason:
            choice = ChunkChoice(index=output.index, delta=Delta(), finish_reason=output.finish_reason)
            if output.stop is not None:
                choice.stop_reason = output.stop
            parts.append(self._event([choice]))
        return b"".join(parts)

    def usage(self, answers: Sequence[CollectedOutput]) -> bytes:
        """The event with the token counts, which has no choices."""
        return self._event([], usage=_usage(self._prompt_tokens, answers))

    def _text(self, index: int, text: str) -> bytes:
        if index not in self._frames:
            mark = "\x00"
            before, after = self._chunk(index, Delta(content=mark)).split(_quote(mark).encode())
            self._frames[index] = (before, after)
        before, after = self._frames[index]
        return before + _quote(text).encode() + after

    def _chunk(self, index: int, delta: Delta, logprobs: ChoiceLogprobs | None = None) -> bytes:
        choice = ChunkChoice(index=index, delta=delta, finish_reason=None)
        if logprobs is not None:
            choice.logprobs = logprobs
        return self._event([choice])

    def _event(self, choices: list[ChunkChoice], **extra: Usage) -> bytes:
        return _event(
            ChatChunk(
                id=self._id,
                object="chat.completion.chunk",
                created=self._created,
                model=self._model,
                choices=choices,
                **extra,
            )
        )


class CompletionWriter:
    """Writes one text completion with the same id, time and model throughout."""

    def __init__(self, id: str, model: str, prompt_tokens: int, created: int | None = None) -> None:
        self._id = f"cmpl-{id}"
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._created = int(time.time()) if created is None else created
        self._offsets: dict[int, int] = {}  # characters of each answer that have an entry

    def whole(self, answers: Sequence[CollectedOutput]) -> bytes:
        """The body of a reply that is not streamed."""
        choices = [
            CompletionChoice(
                index=index,
                text=answer.text,
                finish_reason=answer.last.finish_reason if answer.last else None,
                logprobs=self._logprobs(index, answer.logprobs),
            )
            for index, answer in enumerate(answers)
        ]
        return self._completion(choices, _usage(self._prompt_tokens, answers)).model_dump_json().encode()

    def events(self, output: OutputDelta, *, opening: bool) -> bytes:
        """The event of one delta."""
        choice = CompletionChoice(
            index=output.index,
            text=output.text,
            finish_reason=output.finish_reason,
            logprobs=self._logprobs(output.index, output.logprobs),
        )
        return _event(self._completion([choice]))

    def usage(self, answers: Sequence[CollectedOutput]) -> bytes:
        """The event with the token counts, which has no choices."""
        return _event(self._completion([], _usage(self._prompt_tokens, answers)))

    def _logprobs(self, index: int, entries: list[TokenLogprob] | None) -> CompletionLogprobs | None:
        """The entries in the form of completions; offsets go on where the answer's last ones ended."""
        if not entries:
            return None
        offsets = []
        for entry in entries:
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(entry.token)
        return CompletionLogprobs(
            tokens=[entry.token for entry in entries],
            token_logprobs=[None if math.isnan(entry.logprob) else entry.logprob for entry in entries],
            top_logprobs=[None if math.isnan(entry.logprob) else _likeliest(entry) for entry in entries],
            text_offset=offsets,
        )

    def _completion(self, choices: list[CompletionChoice], usage: Usage | None = None) -> Completion:
        extra = {} if usage is None else {"usage": usage}
        return Completion(
            id=self._id,
            object="text_completion",
            created=self._created,
            model=self._model,
            choices=choices,
            **extra,
        )


def _likeliest(entry: TokenLogprob) -> dict[str, float]:
    """The likeliest tokens in a place, the one that stands there always among them."""
    return {top.token: top.logprob for top in entry.top_logprobs} | {entry.token: entry.logprob}


Writer = ChatWriter | CompletionWriter


def _event(chunk: BaseModel) -> bytes:
    # Only what was set on purpose: OpenAI's chunks leave out what they do not say.
    return b"data: " + chunk.model_dump_json(exclude_unset=True).encode() + b"\n\n"


def _usage(prompt_tokens: int, answers: Sequence[CollectedOutput]) -> Usage:
    made = sum(answer.last.completion_tokens for answer in answers if answer.last)
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=made, total_tokens=prompt_tokens + made)


def _choice(index: int, answer: CollectedOutput) -> Choice:
    calls = [
        ToolCall(
            id=call.id or "",
            type="function",
            function=CalledFunction(name=call.name or "", arguments=call.arguments),
        )
        for call in answer.calls
    ]
    return Choice(
        index=index,
        message=AnswerMessage(
            role="assistant",
            content=answer.text if answer.text or not calls else None,
            tool_calls=calls or None,
        ),
        finish_reason=answer.last.finish_reason if answer.last else None,
        logprobs=_logprobs(answer.logprobs),
    )


def _delta(output: OutputDelta) -> Delta:
    delta = Delta()
    if output.text:
        delta.content = output.text
    if output.calls:
        delta.tool_calls = [_call(call) for call in output.calls]
    return delta


def _call(call: ToolCallPart) -> ToolCallDelta:
    if call.name is None:
        return ToolCallDelta(index=call.number, function=FunctionDelta(arguments=call.arguments))
    function = FunctionDelta(name=call.name, arguments=call.arguments)
    return ToolCallDelta(index=call.number, id=call.id, type="function", function=function)


def _logprobs(content: list[TokenLogprob] | None) -> ChoiceLogprobs | None:
    return ChoiceLogprobs(content=content) if content else None
