"""Checks what the model says before the caller sees it, sentence by sentence.

A stream is held back to the end of a sentence (or a good length of one), so nothing leaves unchecked and the
caller waits for a sentence at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lambdas.inference import model_errors
from lambdas.inference.exchange import Chunk, Exchange
from lambdas.inference.guards.base import Guards
from lambdas.inference.stages.guard_prompt import first_block, refusal

LONGEST_WINDOW = 400
_SENTENCE_END = re.compile(r"[.!?…。！？][\"')\]]*\s|\n")


class GuardAnswer:
    """Wraps `exchange.chunks`."""

    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    def apply(self, exchange: Exchange) -> None:
        """A blocked sentence ends the answer in its place; a guard that fails raises within the stream."""
        if self._guards and not exchange.is_answered:
            exchange.chunks = self._guarded(exchange, exchange.chunks)

    def _guarded(self, exchange: Exchange, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        held = ""
        for chunk in chunks:
            if not chunk["choices"]:
                yield chunk
                continue
            # One answer per request: the protocol takes no other `n`.
            choice = chunk["choices"][0]
            held += exchange.generation.text(choice)
            end = len(held) if choice.get("finish_reason") else window_end(held)
            if held and not end:
                continue
            window, held = held[:end], held[end:]
            released = self._released(exchange, window)
            if released is None:
                exchange.finish_reason = "content_filter"
                yield from refusal(exchange, "")
                return
            exchange.generation.set_text(choice, released)
            yield chunk
        if held:
            # Text came after which no reason to stop followed: what is held may be half of something.
            raise model_errors.interrupted()

    def _released(self, exchange: Exchange, window: str) -> str | None:
        """The window as the caller may see it; None where it may not."""
        if not window:
            return ""
        findings = exchange.note(self._guards.check(window, exchange.guard_times))
        if first_block(findings):
            return None
        return exchange.vault.unmask(exchange.vault.mask_for_good(window, findings))


def window_end(text: str) -> int:
    """Where a text may be cut: behind its last whole sentence, its last word when it grows long, else 0."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    if ends:
        return ends[-1]
    return text.rfind(" ") + 1 if len(text) > LONGEST_WINDOW else 0
