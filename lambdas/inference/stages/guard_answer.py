"""Checks what the model says before the caller sees it, sentence by sentence.

A stream is held back to the end of a sentence (or a good length of one), so nothing leaves unchecked and the
caller waits for a sentence at most. A number is never cut, and where a long sentence had to be, its end is
checked again together with what follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from lambdas.inference import model_errors
from lambdas.inference.exchange import Chunk, Exchange
from lambdas.inference.guards.base import Finding, Guards
from lambdas.inference.stages.guard_prompt import first_block, refusal

LONGEST_WINDOW = 400
OVERLAP = 120
"""Characters of a cut sentence that are looked at once more: more than a number or most phrases have."""
# Behind a digit only what is no number ends a sentence: `+49 30. 123` is one.
_SENTENCE_END = re.compile(r"""(?<!\d)[.!?…]["')\]]*\s|(?<=\d)[.!?…]["')\]]*\s(?=\D)|[。！？]|\n""")
_BETWEEN_WORDS = re.compile(r"(?<![\d])\s(?=[^\d\s])")


class GuardAnswer:
    """Wraps `exchange.chunks`."""

    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    def apply(self, exchange: Exchange) -> None:
        """A blocked sentence ends the answer in its place; a guard that fails raises within the stream."""
        if self._guards and not exchange.is_answered:
            exchange.chunks = self._guarded(exchange, exchange.chunks)

    def _guarded(self, exchange: Exchange, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        held = seen = ""
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
            whole = bool(choice.get("finish_reason")) or end == sentence_end(held)
            window, held = held[:end], held[end:]
            released = self._released(exchange, window, seen)
            seen = "" if whole else (seen + window)[-OVERLAP:]
            if released is None:
                exchange.finish_reason = "content_filter"
                yield from refusal(exchange, "")
                return
            exchange.generation.set_text(choice, released)
            yield chunk
        if held:
            # Text came after which no reason to stop followed: what is held may be half of something.
            raise model_errors.interrupted()

    def _released(self, exchange: Exchange, window: str, seen: str) -> str | None:
        """The window as the caller may see it; None where it may not. `seen` is what it goes on from."""
        if not window:
            return ""
        found = self._guards.check(seen + window, exchange.guard_times)
        findings = exchange.note([_moved(finding, len(seen)) for finding in found if finding.end > len(seen)])
        if first_block(findings):
            return None
        return exchange.vault.unmask(exchange.vault.mask_for_good(window, findings))


def _moved(finding: Finding, by: int) -> Finding:
    """The finding as it lies in the window; what of it has gone out cannot be called back."""
    return replace(finding, start=max(0, finding.start - by), end=finding.end - by)


def sentence_end(text: str) -> int:
    """Behind the last whole sentence; 0 where there is none."""
    return max((match.end() for match in _SENTENCE_END.finditer(text)), default=0)


def window_end(text: str) -> int:
    """Where a text may be cut: behind its last whole sentence, between two words when it grows long, else 0.

    A word too long to wait for is let go as it is.
    """
    if end := sentence_end(text):
        return end
    if len(text) <= LONGEST_WINDOW:
        return 0
    if ends := [match.end() for match in _BETWEEN_WORDS.finditer(text)]:
        return ends[-1]
    return text.rfind(" ") + 1 if len(text) > 4 * LONGEST_WINDOW else 0
