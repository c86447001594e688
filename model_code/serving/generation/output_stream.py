"""One answer in the making: tokens in, deltas of text, calls and log probabilities out.

Pure, one per answer; knows nothing of engines, queues or HTTP.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence

from contracts.chat import FinishReason, TokenLogprob, TopLogprob
from model_code.serving.engines.base import Logprob, TokenEvent
from model_code.serving.generation.chat_tokenizer import ChatTokenizer
from model_code.serving.generation.detokenizer import StopMatcher
from model_code.serving.generation.planning import Plan
from model_code.serving.generation.tool_calls import (
    ParsedToolCall,
    ToolCallParser,
    begins_call,
    parse_tool_calls,
)
from model_code.serving.protocol.deltas import OutputDelta, ToolCallPart


class OutputStream:
    """Turns an engine's events into deltas; `ended` once the last piece is out."""

    def __init__(self, plan: Plan, tokenizer: ChatTokenizer, index: int) -> None:
        self._plan = plan
        self._tokenizer = tokenizer
        self._index = index
        self._decoder = tokenizer.stream_decoder(plan.tools.visible if plan.tools else frozenset())
        self._matcher = StopMatcher(plan.stops)
        tools = plan.tools
        as_json = tools is not None and (tools.beside_format or (tools.forced and tools.only is None))
        self._held = "" if as_json else None  # of an answer that is a call as JSON, or may be one
        marked = tools is not None and not tools.forced and not tools.beside_format
        self._finder = ToolCallParser(tools.syntax, tools.names) if tools and marked else None
        self._calls = 0
        self._tokens = 0
        self._logprobs: list[TokenLogprob] = []
        self.ended = False

    def echo(self, logprobs: Sequence[Logprob] | None) -> OutputDelta:
        """The prompt as the answer's beginning; `logprobs` are those of its tokens but the first."""
        entries = None
        if logprobs is not None:
            first = self._described(self._plan.prompt[0], math.nan)
            entries = [TokenLogprob(**first.model_dump())]
            entries += [
                self._entry(token, logprob)
                for token, logprob in zip(self._plan.prompt[1:], logprobs, strict=True)
            ]
        reason: FinishReason | None = "length" if self._plan.max_tokens == 0 else None
        return OutputDelta(self._plan.echo or "", 0, reason, self._index, entries)

    def push(self, event: TokenEvent) -> OutputDelta | None:
        """The piece that an event completes; None where there is nothing to show yet.

        The first event always gives a piece, so that the first token is seen to come.
        """
        first, self._tokens = self._tokens == 0, self._tokens + len(event.tokens)
        if event.logprobs is not None:
            self._add_logprobs(event.tokens, event.logprobs)
        text, stopped = self._matcher.push(self._decoder.push(event.tokens))
        self.ended = stopped or event.stop_reason is not None
        if self.ended and not stopped:
            text += self._matcher.flush()
        reason: FinishReason | None = "stop" if stopped else event.stop_reason
        if self._plan.tools is None:
            return self._delta(text, (), reason) if text or first or self.ended else None
        text, calls = self._with_calls(text, reason)
        if self._calls and (reason == "stop" or (self.ended and reason is None)):
            reason = "tool_calls"
        return self._delta(text, calls, reason) if text or calls or first or self.ended else None

    def _delta(self, text: str, calls: tuple[ToolCallPart, ...], reason: FinishReason | None) -> OutputDelta:
        logprobs, self._logprobs = self._logprobs, []
        stop = self._matcher.reached if reason else None
        return OutputDelta(text, self._tokens, reason, self._index, logprobs or None, calls, stop)

    def _with_calls(self, text: str, reason: FinishReason | None) -> tuple[str, tuple[ToolCallPart, ...]]:
        tools = self._plan.tools
        if tools is not None and tools.only is not None:
            return "", self._arguments(tools.only, text)
        if self._held is not None and tools is not None:
            self._held += text
            if tools.beside_format and not begins_call(self._held, tools.names):
                text, self._held = self._held, None
                return text, ()
            found = parse_tool_calls(self._held, tools.names) if reason else []
            cut_short = self._held if reason and not found else ""
            return cut_short, self._call_parts(found)
        if self._finder is None:  # what was held turned out to be the answer
            return text, ()
        text, found = self._finder.push(text)
        if reason:
            rest, more = self._finder.flush()
            text, found = text + rest, found + more
        if found and tools and not tools.several:
            found, self.ended = found[: 1 - self._calls], True
        return text, self._call_parts(found)

    def _arguments(self, name: str, text: str) -> tuple[ToolCallPart, ...]:
        """All text is the arguments of the one function that may be called."""
        opening, self._calls = self._calls == 0, 1
        if opening:
            return (ToolCallPart(0, text, _new_id(), name),)
        return (ToolCallPart(0, text),) if text else ()

    def _call_parts(self, found: Sequence[ParsedToolCall]) -> tuple[ToolCallPart, ...]:
        numbered = enumerate(found, self._calls)
        self._calls += len(found)
        return tuple(ToolCallPart(number, call.arguments, _new_id(), call.name) for number, call in numbered)

    def _add_logprobs(self, tokens: Sequence[int], logprobs: Sequence[Logprob]) -> None:
        for token, logprob in zip(tokens, logprobs, strict=True):
            # A control token adds nothing to the text, but who scores a prompt counts entries.
            if self._plan.echo is not None or not self._tokenizer.is_control(token):
                self._logprobs.append(self._entry(token, logprob))

    def _entry(self, token: int, logprob: Logprob) -> TokenLogprob:
        top = [self._described(other, value) for other, value in logprob.top[: self._plan.logprobs or 0]]
        return TokenLogprob(**self._described(token, logprob.value).model_dump(), top_logprobs=top)

    def _described(self, token: int, value: float) -> TopLogprob:
        raw = self._tokenizer.token_bytes(token)
        return TopLogprob(token=raw.decode(errors="replace"), logprob=max(value, -9999.0), bytes=list(raw))


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
