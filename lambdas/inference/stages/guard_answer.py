"""Checks what the model says before the caller sees it, sentence by sentence.

A stream is held back to the end of a sentence (or a good length of one), so nothing leaves unchecked and the
caller waits for a sentence at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from lambdas.inference import model_errors
from lambdas.inference.exchange import Chunk, Exchange
from lambdas.inference.guards.base import Guards
from lambdas.inference.operations import Gathered
from lambdas.inference.stages.guard_prompt import first_block, refusal

LONGEST_WINDOW = 400
_SENTENCE_END = re.compile(r"[.!?…。！？][\"')\]]*\s|\n")


class _Blocked(Exception):
    """The caller may not see what the model says."""


class GuardAnswer:
    """Wraps `exchange.chunks`."""

    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    def apply(self, exchange: Exchange) -> None:
        """A blocked sentence ends the answer in its place; a guard that fails raises within the stream."""
        if self._guards and not exchange.is_answered:
            exchange.chunks = self._guarded(exchange, exchange.chunks)

    def _guarded(self, exchange: Exchange, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        held: dict[int, Gathered] = {}
        for chunk in chunks:
            if not chunk["choices"]:
                yield chunk
                continue
            released = []
            for choice in chunk["choices"]:
                answer = held.setdefault(choice.get("index", 0), Gathered(choice.get("index", 0)))
                try:
                    if self._passes(exchange, answer, choice):
                        released.append(choice)
                except _Blocked:
                    exchange.finish_reason = "content_filter"
                    yield from refusal(
                        exchange, "", [i for i, each in held.items() if not each.finish_reason]
                    )
                    return
            if released:
                chunk["choices"] = released
                yield chunk
        if any(answer.text or answer.calls for answer in held.values()):
            # Text came after which no reason to stop followed: what is held may be half of something.
            raise model_errors.interrupted()

    def _passes(self, exchange: Exchange, answer: Gathered, choice: dict[str, Any]) -> bool:
        """Whether a chunk's choice goes on to the caller, with what of the answer may go by now.

        Calls are held until they are whole. Raises _Blocked.
        """
        generation, ends = exchange.generation, choice.get("finish_reason")
        answer.text += generation.text(choice)
        if calls := generation.calls(choice):
            answer.add_calls(calls)
            generation.set_calls(choice, [])
        end = len(answer.text) if ends else window_end(answer.text)
        if not ends and ((answer.text and not end) or (calls and not answer.text)):
            return False
        window, answer.text = answer.text[:end], answer.text[end:]
        released = self._released(exchange, window)
        if ends and answer.calls:
            generation.set_calls(choice, [self._call(exchange, i, c) for i, c in enumerate(answer.calls)])
            answer.calls = []
        if released or not answer.calls:
            generation.set_text(choice, released)
        answer.finish_reason = ends
        return True

    def _call(self, exchange: Exchange, index: int, call: dict[str, Any]) -> dict[str, Any]:
        arguments = self._released(exchange, call["function"]["arguments"])
        return {**call, "index": index, "function": {**call["function"], "arguments": arguments}}

    def _released(self, exchange: Exchange, window: str) -> str:
        """The window as the caller may see it. Raises _Blocked where it may not."""
        if not window:
            return ""
        findings = exchange.note(self._guards.check(window, exchange.guard_times))
        if first_block(findings):
            raise _Blocked
        return exchange.vault.unmask(exchange.vault.mask_for_good(window, findings))


def window_end(text: str) -> int:
    """Where a text may be cut: behind its last whole sentence, its last word when it grows long, else 0."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    if ends:
        return ends[-1]
    return text.rfind(" ") + 1 if len(text) > LONGEST_WINDOW else 0
