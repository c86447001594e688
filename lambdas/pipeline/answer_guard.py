"""Checks what the model says before the caller sees it, sentence by sentence.

A stream is held back to the end of a sentence (or a good length of one), so nothing leaves unchecked and the
caller waits for a sentence at most. A number is never cut, and where a long sentence had to be, its end is
checked again together with what follows. An answer that was to be JSON is read as such and stays JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from contracts.chat import ChatRequest
from lambdas.aws import model_errors
from lambdas.pipeline.guards import json_text
from lambdas.pipeline.guards.base import Finding, Guards
from lambdas.pipeline.guards.session import GuardSession
from lambdas.pipeline.operations import Gathered
from lambdas.pipeline.prompt_guard import first_block, refusal
from lambdas.pipeline.request import Chunk, Response, TextGeneration

LONGEST_WINDOW = 400
OVERLAP = 120
"""Characters of a cut sentence that are looked at once more: more than a number or most phrases have."""
# Behind a digit only what is no number ends a sentence: `+49 30. 123` is one.
_SENTENCE_END = re.compile(r"""(?<!\d)[.!?…]["')\]]*\s|(?<=\d)[.!?…]["')\]]*\s(?=\D)|[。！？]|\n""")
_BETWEEN_WORDS = re.compile(r"(?<![\d])\s(?=[^\d\s])")


class _BlockedError(Exception):
    """The caller may not see what the model says."""


@dataclass
class _Answer:
    """One answer on its way: what is held of it, and the end of the sentence that has gone out last.

    `within`: what has gone out of an answer in JSON ends in the middle of a string.
    """

    held: Gathered
    seen: str = ""
    within: bool = False


class GuardAnswer:
    """Chunks → the chunks that the caller may see."""

    def __init__(self, guards: Guards) -> None:
        self._guards = guards

    def __call__(
        self, generation: TextGeneration, chunks: Iterable[Chunk], guards: GuardSession, response: Response
    ) -> Iterator[Chunk]:
        """A blocked sentence ends the answer in its place; a guard that fails raises within the stream."""
        held: dict[int, _Answer] = {}
        for chunk in chunks:
            if not chunk["choices"]:
                yield chunk
                continue
            released = []
            for choice in chunk["choices"]:
                answer = held.setdefault(choice.get("index", 0), _Answer(Gathered(choice.get("index", 0))))
                try:
                    if self._passes(generation, guards, answer, choice):
                        released.append(choice)
                except _BlockedError:
                    if released:
                        chunk["choices"] = released
                        yield chunk
                    response.finish_reason = "content_filter"
                    yield from refusal(generation, guards.report.blocked_by, "", _open(generation, held))
                    return
            if released:
                chunk["choices"] = released
                yield chunk
        if any(answer.held.text or answer.held.calls for answer in held.values()):
            # Text came after which no reason to stop followed: what is held may be half of something.
            raise model_errors.interrupted()

    def _passes(
        self, generation: TextGeneration, guards: GuardSession, answer: _Answer, choice: dict[str, Any]
    ) -> bool:
        """Whether a chunk's choice goes on to the caller, with what of the answer may go by now.

        Calls are held until they are whole. Raises _BlockedError.
        """
        operation, held, ends = generation.operation, answer.held, choice.get("finish_reason")
        operation.drop_notes(choice)  # nobody checks them
        held.text += operation.text(choice)
        if calls := operation.calls(choice):
            held.add_calls(calls)
            operation.set_calls(choice, [])
        end = len(held.text) if ends else window_end(held.text)
        if not ends and ((held.text and not end) or (calls and not held.text)):
            return False
        whole = bool(ends) or end == sentence_end(held.text)
        window, held.text = held.text[:end], held.text[end:]
        reading = json_text.part(window, answer.within) if _is_json(generation) else json_text.plain(window)
        released = self._released(guards, reading, answer.seen)
        answer.seen = "" if whole else (answer.seen + reading.text)[-OVERLAP:]
        answer.within = reading.within
        if ends and held.calls:
            operation.set_calls(choice, [self._call(guards, i, c) for i, c in enumerate(held.calls)])
            held.calls = []
        if released or not held.calls:
            operation.set_text(choice, released)
        held.finish_reason = ends
        return True

    def _call(self, guards: GuardSession, index: int, call: dict[str, Any]) -> dict[str, Any]:
        arguments = self._released(guards, json_text.whole(call["function"]["arguments"]), "")
        return {**call, "index": index, "function": {**call["function"], "arguments": arguments}}

    def _released(self, guards: GuardSession, reading: json_text.Reading, seen: str) -> str:
        """The text as the caller may see it; `seen` is what it goes on from. Raises _BlockedError."""
        if not reading.text:
            return ""
        with guards.span_of_answer():
            found = self._guards.check(seen + reading.text, guards.report.times)
        findings = guards.note([_moved(finding, len(seen)) for finding in found if finding.end > len(seen)])
        if first_block(findings):
            raise _BlockedError
        vault = guards.vault
        return reading.changed(findings, lambda text, here: vault.unmask(vault.mask_for_good(text, here)))


def _is_json(generation: TextGeneration) -> bool:
    """Whether the caller asked for JSON."""
    request = generation.body
    form = request.response_format if isinstance(request, ChatRequest) else None
    return form is not None and form.type != "text"


def _open(generation: TextGeneration, held: dict[int, _Answer]) -> list[int]:
    """The answers that have not ended, those that have not begun included."""
    ended = {index for index, answer in held.items() if answer.held.finish_reason}
    return sorted({*range(generation.body.answers), *held} - ended)


def _moved(finding: Finding, by: int) -> Finding:
    """The finding as it lies in the window; what has been sent of it cannot be withdrawn."""
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
